"""Looks at domains, and nothing but looks: by id, always fresh, and with the question whose they are.

A look-up that fails raises libvirt's error, for `LibvirtConnection.run` to translate; only libvirt's own "no such domain"
is taken for absence.
"""

import libvirt

from taskvisor.model.errors import Contradiction, UnreadableRecord
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DefinitionFacts, DomainFacts, DomainUse
from taskvisor.model.states import PowerState
from virt.domain.owner import NAMESPACE
from virt.libvirt_errors import is_no_domain
from virt.readback import parse_domain, parse_owner

KIB_PER_MIB = 1024
POWER_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}
"""libvirt's virDomainState in Nova's words (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainState)."""


def power_state_for(state: int) -> PowerState:
    """The power state behind libvirt's number; NOSTATE for one that a later libvirt has added."""
    return POWER_STATES.get(state, PowerState.NOSTATE)


def look_up(connection: libvirt.virConnect, instance_id: InstanceId) -> libvirt.virDomain | None:
    """libvirt's handle of the domain; None when libvirt says that there is none."""
    try:
        return connection.lookupByUUIDString(instance_id)
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return None
        raise


def look_up_ours(connection: libvirt.virConnect, instance_id: InstanceId) -> libvirt.virDomain | None:
    """The handle to act on; None when there is no such domain, Contradiction when it bears no metadata of ours."""
    domain = look_up(connection, instance_id)
    if domain is None:
        return None
    try:
        owner = _owner_of(domain)
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return None
        raise
    if owner != instance_id:
        raise Contradiction(
            f"domain {domain.name()} ({instance_id}) belongs to {owner or 'somebody else'}; left alone; "
            "rename or remove it by hand if it should make way"
        )
    return domain


def is_active(domain: libvirt.virDomain) -> bool:
    """Whether the domain runs or is paused; one that has vanished is not."""
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return False
        raise


def read_facts_of(connection: libvirt.virConnect, instance_id: InstanceId) -> DomainFacts | None:
    """All facts of one domain; None when libvirt says that there is none."""
    domain = look_up(connection, instance_id)
    if domain is None:
        return None
    try:
        state, _reason = domain.state()
        seen = parse_domain(domain.XMLDesc())
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return None
        raise
    return _facts(domain, state, seen.owner, seen.vnc_port)


def list_facts(connection: libvirt.virConnect) -> tuple[DomainFacts, ...]:
    """The facts of every domain, without VNC ports. A domain that vanishes meanwhile is left out.

    One call for all states, and a short one per domain for its owner. Measured with 300 domains: 75 ms, against 160 ms
    with each domain's XML. NOWAIT: a domain whose qemu hangs must not hold up the list.
    """
    found = connection.getAllDomainStats(
        libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    )
    facts = (
        _facts_unless_gone(domain, stats.get("state.state", libvirt.VIR_DOMAIN_NOSTATE)) for domain, stats in found
    )
    return tuple(fact for fact in facts if fact is not None)


def list_uses(connection: libvirt.virConnect) -> tuple[DomainUse, ...]:
    """What every domain has of the host, by one call for all. NOWAIT: a domain whose QEMU hangs must not hold up the others."""
    found = connection.getAllDomainStats(
        libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_VCPU,
        libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
    )
    return tuple(
        DomainUse(
            instance_id=InstanceId(domain.UUIDString()),
            name=domain.name(),
            runs=domain.ID() >= 0,
            vcpus=int(stats.get("vcpu.maximum", 0)),
            memory_mib=int(stats.get("balloon.maximum", 0)) // KIB_PER_MIB,
        )
        for domain, stats in found
    )


def list_definitions(connection: libvirt.virConnect) -> tuple[DefinitionFacts, ...]:
    """The XML of every domain, without what is secret in it. A domain that vanishes meanwhile is left out.

    Two calls for all domains, and one for each, two where it runs; none of them asks a domain's QEMU, so that one that hangs
    holds nothing up.
    """
    defined = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    only_running = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
    found = (
        *(_definition_unless_gone(domain, is_defined=True) for domain in defined),
        *(_definition_unless_gone(domain, is_defined=False) for domain in only_running),
    )
    return tuple(facts for facts in found if facts is not None)


def _definition_unless_gone(domain: libvirt.virDomain, *, is_defined: bool) -> DefinitionFacts | None:
    try:
        return DefinitionFacts(
            instance_id=InstanceId(domain.UUIDString()),
            persistent_xml=domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if is_defined else None,
            live_xml=domain.XMLDesc() if domain.ID() >= 0 else None,  # known from the list
        )
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return None
        raise


def _facts_unless_gone(domain: libvirt.virDomain, state: int) -> DomainFacts | None:
    try:
        return _facts(domain, state, _owner_of(domain), None)
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return None
        raise


def _facts(domain: libvirt.virDomain, state: int, owner: InstanceId | None, vnc_port: int | None) -> DomainFacts:
    uuid, boot_id = InstanceId(domain.UUIDString()), domain.ID()
    return DomainFacts(
        instance_id=uuid,
        name=domain.name(),
        power_state=power_state_for(state),
        boot_id=boot_id if boot_id >= 0 else None,
        owned=owner == uuid,
        vnc_port=vnc_port,
    )


def _owner_of(domain: libvirt.virDomain) -> InstanceId | None:
    try:
        return parse_owner(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise
    except UnreadableRecord:
        return None  # somebody's, but nobody can say that it is ours
