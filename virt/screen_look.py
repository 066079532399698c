"""Says on which port a guest's VNC server listens: `python -m virt.screen_look URI ID`, one line of JSON, on the guest's host.

A process of its own, for who asks (the command line) must not load libvirt. Asks no guest's QEMU.
"""

import logging
import sys

import msgspec
import structlog

from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import InstanceId
from taskvisor.model.screen import ScreenLook
from virt.connection import LibvirtConnection
from virt.lookup import read_facts_of


def read_screen(uri: str, instance_id: InstanceId) -> ScreenLook:
    """Where the screen is, or why there is none. CannotAsk and its kin when libvirt can't be asked."""
    connection = LibvirtConnection(uri)
    try:
        facts = connection.run("say where its screen is", lambda live: read_facts_of(live, instance_id))
    finally:
        connection.close()
    if facts is None or facts.boot_id is None:
        return ScreenLook(problem="it is off")
    if facts.vnc_port is None:
        return ScreenLook(problem="it has no screen: its video model is none")
    return ScreenLook(port=facts.vnc_port)


def main() -> int:
    """Prints it. Exit code 1 when libvirt could not be asked: then the line says why."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        look = read_screen(sys.argv[1], InstanceId(sys.argv[2]))
    except TaskvisorError as problem:
        print(msgspec.json.encode(ScreenLook(problem=str(problem))).decode())
        return 1
    print(msgspec.json.encode(look).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
