"""Says which host libvirt runs on and which guests of ours it has: `python -m virt.host_look URI`, lines of JSON, then it ends.

A process of its own: a node asks this at its start, and a process that has libvirt's threads must not fork its pool. The
first line is the look without guests, and how many lines of guests follow: half an answer is none. Asks no guest's QEMU.
"""

import logging
import sys

import libvirt
import msgspec
import structlog

from taskvisor.model.errors import TaskvisorError
from taskvisor.model.identity import GuestHere, HostLook
from virt.connection import LibvirtConnection
from virt.host_look_lines import Heading
from virt.libvirt_xml import parse_tree
from virt.lookup import list_facts


def read_look(uri: str) -> HostLook:
    """What this libvirt has. CannotAsk and its kin when it can't be asked."""
    connection = LibvirtConnection(uri)
    try:
        return connection.run("say which host this is and which guests it has", _look)
    finally:
        connection.close()


def parse_host_id(capabilities_xml: str) -> str | None:
    """The UUID of the host (https://libvirt.org/formatcaps.html#element-host); None where libvirt tells none."""
    return parse_tree(capabilities_xml, "capabilities").findtext("host/uuid") or None


def _look(connection: libvirt.virConnect) -> HostLook:
    guests = (GuestHere(id=one.instance_id, name=one.name) for one in list_facts(connection) if one.owned)
    return HostLook(hypervisor_id=parse_host_id(connection.getCapabilities()), guests=tuple(guests))


def main() -> int:
    """Prints it. Exit code 1 when libvirt could not be asked: then the first line says why."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )  # lines are for the look alone
    try:
        look = read_look(sys.argv[1])
    except TaskvisorError as problem:
        print(msgspec.json.encode(Heading(problem=str(problem))).decode())
        return 1
    lines = [Heading(hypervisor_id=look.hypervisor_id, guests=len(look.guests)), *look.guests]
    print("\n".join(msgspec.json.encode(line).decode() for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
