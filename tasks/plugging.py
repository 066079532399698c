"""A guest's NICs and what surrounds them, on one host: the order in which both are made, for whoever plugs; and what lacks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from tasks.guest_plans import vifs_of
from taskvisor.flow.ports import Ports
from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.ids import InstanceId, NetworkId
from taskvisor.model.observed import DomainFacts, PlugLack
from taskvisor.model.plan import VifPlan
from taskvisor.model.records import Instance

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class PluggedGuest:
    """A guest and the ports of its host, as whoever plans its NICs needs them."""

    instance: Instance
    ports: Ports


def plug(ports: Ports, vifs: Sequence[VifPlan]) -> None:
    """Every NIC is plugged, and the host knows the surroundings of each of their networks, which comes last."""
    for vif in vifs:
        ports.fabric.ensure_plugged(vif)
    refresh(ports, (vif.network_id for vif in vifs))


def refresh(ports: Ports, networks: Iterable[NetworkId]) -> None:
    """What surrounds each of these networks is here as the records have it now; of no effect for one without ports here."""
    for network_id in dict.fromkeys(networks):
        ports.fabric.ensure_surroundings(ports.networks.read_surroundings(network_id))


def plug_lacks_of(ports: Ports, instances: Iterable[Instance], domains: Iterable[DomainFacts]) -> tuple[PlugLack, ...]:
    """What the NICs of each guest lack that runs, by these domains, and has no task under way. Touches nothing.

    CannotAsk when the host, or the records of networks, can't be asked.
    """
    running = running_in(domains)
    guests = [one for one in instances if one.id in running and one.task_state is None]
    return ports.fabric.list_missing([vif for instance in guests for vif in planned_vifs(ports, instance)])


def running_in(domains: Iterable[DomainFacts]) -> frozenset[InstanceId]:
    """The guests of ours that are not off."""
    return frozenset(domain.instance_id for domain in domains if domain.owned and not domain.power_state.is_down)


def planned_vifs(ports: Ports, instance: Instance) -> tuple[VifPlan, ...]:
    """The guest's NICs here; none of a guest whose NICs can't be planned on this host: that is told, and hinders no other."""
    try:
        return vifs_of(PluggedGuest(instance=instance, ports=ports))
    except CannotAsk:
        raise
    except TaskvisorError as problem:
        log.warning("plug_not_looked_at", instance_id=instance.id, reason=str(problem))
        return ()
