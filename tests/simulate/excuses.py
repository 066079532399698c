"""What a crash of Redis has set back, by id: only of these may hosts and records differ afterwards, and nothing else.

A crash loses up to a second of writes. What was done on hosts in that second may have no owner afterwards, and may be done
again elsewhere; the records never disagree with each other because of it.
"""

from collections.abc import Iterable

from net.plan import tap_name_for
from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import InstanceId, OperationId, PortId, image_id_for, instance_id_for, mac_for, port_id_for
from tests.simulate.records import PREFIX, Seen, Value

NICS_LIMIT = 2
"""A request of `callers` asks for so many at most."""
LEFT_BY_LOST_WRITES = frozenset(
    {
        Code.DOMAIN_WITHOUT_RECORD,
        Code.DOMAIN_ELSEWHERE,
        Code.DOMAIN_MISSING,
        Code.DIRECTORY_WITHOUT_RECORD,
        Code.DIRECTORY_MISSING,
        Code.LINK_WITHOUT_RECORD,
        Code.LINK_MISSING,
        Code.LINK_NOT_OPEN,
        Code.FILTER_MISSING,
        Code.DHCP_WITHOUT_RECORD,
        Code.DHCP_MISSING,
        Code.METADATA_MISSING,
        Code.IMAGE_FILE_WITHOUT_RECORD,
        Code.IMAGE_FILE_MISSING,
        Code.CONNECTION_WITHOUT_RECORD,
        Code.CONNECTION_MISSING,
    }
)
"""What a crash of Redis may leave between hosts and records. The audit names it; the records themselves stay whole."""
OF_WHAT_COMES_AND_GOES = ("drift.disk.", "drift.nic.", "drift.metadata.")
"""How a guest may differ from its record when what was attached to it, or detached, in the lost moment is not recorded so."""


class Excuses:
    """Gathers what crashes have set back."""

    def __init__(self) -> None:
        self._instances: set[str] = set()
        self._operations: set[str] = set()
        self._images: set[str] = set()
        """Names of images: a delete that was set back may have removed the file."""
        self._subjects: set[str] = set()
        """Instances, their ports, MACs and links, and images: what a finding may be about."""

    def add(self, changed: Iterable[str], lost: Seen) -> frozenset[str]:
        """These keys changed in the lost moment, at whose end the records were so. The operations among them are returned."""
        operations: set[str] = set()
        for key in changed:
            kind, _, name = key.removeprefix(PREFIX).partition(":")
            if kind in ("instance", "lease"):
                self._add_instance(InstanceId(name))
                self._add_ports(lost.instances.get(name, {}).get("ports", ()))
            elif kind == "image":
                self._images.add(name)
            elif kind in ("op", "result"):
                operations.add(name)
                self._add_instance(instance_id_for(OperationId(name)))
                self._subjects.add(image_id_for(OperationId(name)))
        self._operations |= operations
        return frozenset(operations)

    def _add_instance(self, instance_id: InstanceId) -> None:
        self._instances.add(instance_id)
        ports = [port_id_for(instance_id, index) for index in range(NICS_LIMIT)]
        self._subjects |= {instance_id, *ports, *map(mac_for, ports), *map(tap_name_for, ports)}

    def _add_ports(self, ports: Iterable[Value]) -> None:
        """Those that came later than the instance have ids, and MACs, that do not follow from its own."""
        for port in ports:
            self._subjects |= {port["id"], port["mac"], tap_name_for(PortId(port["id"]))}

    def of(self, subject: str) -> bool:
        """The instance, port, MAC, link or image was set back, or belongs to what was."""
        return subject in self._subjects

    def of_operation(self, operation_id: str) -> bool:
        """The operation itself was set back, or what its caller sees."""
        return operation_id in self._operations

    def of_work(self, operation: Value) -> bool:
        """The operation was set back, or its instance was, before it or in its midst."""
        return operation["id"] in self._operations or operation["instance_id"] in self._instances

    def of_finding(self, finding: Finding) -> bool:
        if finding.code is Code.IMAGE_FILE_MISSING and any(repr(name) in finding.message for name in self._images):
            return True
        if finding.code is Code.GUEST_DRIFTED:
            fit = all(f"{one.code}.".startswith(OF_WHAT_COMES_AND_GOES) for one in finding.differences)
            return fit and finding.subject in self._instances
        return finding.code in LEFT_BY_LOST_WRITES and finding.subject.partition(" ")[0] in self._subjects
