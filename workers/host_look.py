"""What a host's hypervisor has, asked by a process that will fork its pool: by a program, see `virt.host_look`."""

import sys
import time

import msgspec

from taskvisor.model.errors import CannotAsk, Retryable
from taskvisor.model.identity import GuestHere, HostLook
from taskvisor.settings import Settings
from virt.command import LineProgram
from virt.host_look_lines import Heading
from workers.listener import listener_environment
from workers.machine import lasting_id, read_firmware_ids, read_machine_id

LOOK_LIMIT_S = 60.0
"""libvirtd may be starting, or hang: the program's own calls give up within half a minute."""


def read_host_look(settings: Settings) -> HostLook:
    """The hypervisor's host and our guests on it. CannotAsk when it did not say so within LOOK_LIMIT_S."""
    if settings.driver == "simulated":
        return _simulated_look(settings)
    lines = _read_lines(
        LineProgram([sys.executable, "-m", "virt.host_look", settings.libvirt_uri], listener_environment(settings))
    )
    try:
        heading = msgspec.json.decode(lines[0], type=Heading)
        guests = tuple(msgspec.json.decode(line, type=GuestHere) for line in lines[1:])
    except msgspec.MsgspecError as error:
        raise CannotAsk(f"the look at libvirt said what can't be read: {error}") from error
    lasting = lasting_id(heading.hypervisor_id, machine_id=read_machine_id(), firmware_ids=read_firmware_ids())
    return HostLook(hypervisor_id=lasting, guests=guests)


def _read_lines(program: LineProgram) -> list[bytes]:
    """The heading and the line of each guest: all of them or CannotAsk."""
    lines: list[bytes] = []
    deadline = time.monotonic() + LOOK_LIMIT_S
    try:
        while not lines or len(lines) < 1 + _heading_of(lines).guests:
            lines += _lines_before(program, deadline)
    finally:
        program.close()
    return lines


def _lines_before(program: LineProgram, deadline: float) -> tuple[bytes, ...]:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise CannotAsk(f"libvirt did not say within {LOOK_LIMIT_S:g} s which guests it has; does libvirtd hang?")
    try:
        return program.read_lines(left_s)
    except Retryable as ended:
        raise CannotAsk(f"the look at libvirt came to no end: {ended}") from ended


def _heading_of(lines: list[bytes]) -> Heading:
    try:
        heading = msgspec.json.decode(lines[0], type=Heading)
    except msgspec.MsgspecError as error:
        raise CannotAsk(f"the look at libvirt said what can't be read: {error}") from error
    if heading.problem is not None:
        raise CannotAsk(heading.problem)
    return heading


def _simulated_look(settings: Settings) -> HostLook:
    """Simulated hosts have no libvirt, and none of its host's id."""
    from virt.simulated import SimulatedHypervisor  # noqa: PLC0415 - a real host does not carry it

    domains = SimulatedHypervisor(settings.state_dir / "simulated").list_domains()
    return HostLook(
        hypervisor_id=None,
        guests=tuple(GuestHere(id=one.instance_id, name=one.name) for one in domains if one.owned),
    )
