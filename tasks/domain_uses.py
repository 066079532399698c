"""Whether any domain of a host, ours or anyone's, has something: asked before it is taken away."""

from collections.abc import Callable

from taskvisor.flow.ports import Ports
from virt.readback import DomainSeen, parse_domain


def find_user(ports: Ports, uses: Callable[[DomainSeen], bool]) -> str | None:
    """The name of a domain of which this is true, as it is defined or as it runs; None: of no one. CannotAsk."""
    for found in ports.hypervisor.list_definitions():
        for xml in (found.persistent_xml, found.live_xml):
            if xml is not None and uses(seen := parse_domain(xml)):
                return str(seen.name)
    return None
