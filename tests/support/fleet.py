"""A fleet of simulated hosts on one real Redis, without Celery: requests go through the door, messages through the post."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis

from net.simulated import SimulatedFabric, SimulatedNeighbour
from tasks.door import Admitted, Answer, Door
from tasks.flows import FLOWS
from tasks.keeping import RecordKeeper
from tasks.periodic import HostReport, Settler, Sweep
from tasks.replug import PlugCheck
from tasks.store import RememberedNetworks, Store
from tasks.ticking import Ticker
from tasks.tracking import Tracker
from taskvisor.compute.inventory import Ratios
from taskvisor.compute.resources.table import OUR_TABLE, ResourceTable
from taskvisor.flow.ports import Journal, Ports, StepLimits
from taskvisor.flow.runner import StepRunner
from taskvisor.flow.step import Flows
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.network import HostLinks
from taskvisor.model.operation import Facts, Operation, Runner
from taskvisor.model.operator import OperatorChoices
from taskvisor.model.records import Instance
from taskvisor.model.states import Phase
from taskvisor.state.addresses import Addresses
from taskvisor.state.admission import Admission
from taskvisor.state.aggregates import AggregateChanges, Aggregates
from taskvisor.state.catalog import Catalog
from taskvisor.state.closing import Closing
from taskvisor.state.connection import open_redis
from taskvisor.state.counters import Counters
from taskvisor.state.drains import DrainChanges, Drains
from taskvisor.state.events import Events
from taskvisor.state.explanations import Explanations
from taskvisor.state.flavors import FlavorChanges, Flavors
from taskvisor.state.fleet_view import FleetView
from taskvisor.state.floating import FloatingAddresses, FloatingChanges
from taskvisor.state.host_changes import HostChanges
from taskvisor.state.host_operations import HostOperations
from taskvisor.state.hosts import Hosts
from taskvisor.state.identities import Identities
from taskvisor.state.images import Images
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.networks import Networks
from taskvisor.state.orphans import Orphans
from taskvisor.state.ports import PortChanges
from taskvisor.state.repairs import Repairs
from taskvisor.state.security_groups import GroupChanges, SecurityGroups
from taskvisor.state.server_group_changes import ServerGroupChanges
from taskvisor.state.server_groups import ServerGroups
from taskvisor.state.silence import Silence
from taskvisor.state.surroundings import SurroundingsReader
from taskvisor.state.survey import Survey
from taskvisor.state.ticks import Ticks
from taskvisor.state.usage import UsageRecords
from taskvisor.state.waiting import Waiting
from taskvisor.state.writing import OutcomeFor, Writer
from tests.support.clock import FakeClock
from tests.support.post import Post
from tests.support.published import require_published_result
from tests.support.spies import OnCall, watched, watched_ports
from virt.seeds.vendor_data import VendorDataFile
from virt.simulated import SimulatedDisks, SimulatedHypervisor, SimulatedImageCache, SimulatedVolumes
from virt.simulated.outsider import SimulatedOutsider
from workers.locks import HostTickLocks, InstanceLocks

KEYS = Keys("taskvisor:")
IMAGE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
PERIOD_S = 15.0
INCARNATION = "first"
NO_CHOICES = OperatorChoices()


class TimeIsUp(Exception):
    """What tells a step of a fleet that it takes too long."""


@dataclass
class SimulatedHost:
    """One host: where its files are, what runs steps on it, and who else has root there."""

    name: HostName
    root: Path
    ports: Ports
    runner: StepRunner
    report: HostReport
    plugs: PlugCheck
    ticker: Ticker
    keeper: RecordKeeper
    outsider: SimulatedOutsider
    neighbour: SimulatedNeighbour


class Fleet:
    """All that workers/node.py composes, for several hosts in one process, and a clock that tests move."""

    def __init__(
        self,
        redis_url: str,
        root: Path,
        *,
        hosts: tuple[str, ...] = ("h1",),
        memory_mib: Mapping[str, int] | None = None,
        cidr: str = "10.152.0.0/16",
        max_reschedules: int = 2,
        flows: Flows = FLOWS,
        outcome_for: OutcomeFor = lambda *_: None,
        choices: OperatorChoices = NO_CHOICES,
        client: redis.Redis | None = None,
        resources: ResourceTable = OUR_TABLE,
        view_for: Callable[[redis.Redis, Keys], FleetView] = FleetView,
    ) -> None:
        """`client` is one that is open already; who opened it closes it."""
        self._choices = choices
        self._lent = client is not None
        self.clock = FakeClock()
        self.client = client or open_redis(redis_url, timeout_s=5.0)
        self.flows = flows
        writer = Writer(keys=KEYS, operation_keep_s=3600, events_kept=1000, outcome_for=outcome_for)
        self.store = Store(
            catalog=Catalog(self.client, KEYS),
            admission=Admission(self.client, writer),
            addresses=Addresses(self.client, KEYS),
            hosts=Hosts(self.client, KEYS),
            identities=Identities(self.client, KEYS),
            images=Images(self.client, writer),
            journal=RedisJournal(self.client, writer),
            counters=Counters(self.client, KEYS),
            networks=Networks(self.client, writer),
            groups=SecurityGroups(self.client, KEYS),
            group_changes=GroupChanges(self.client, writer),
            floating=FloatingAddresses(self.client, KEYS),
            floating_changes=FloatingChanges(self.client, writer),
            port_changes=PortChanges(self.client, writer),
            flavors=Flavors(self.client, KEYS),
            flavor_changes=FlavorChanges(self.client, writer),
            surroundings=SurroundingsReader(self.client, KEYS),
            ticks=Ticks(self.client, KEYS),
            waiting=Waiting(self.client, KEYS),
            silence=Silence(self.client, writer),
            usage=UsageRecords(self.client, KEYS),
            fleet=view_for(self.client, KEYS),
            aggregates=Aggregates(self.client, KEYS),
            aggregate_changes=AggregateChanges(self.client, writer),
            host_changes=HostChanges(self.client, writer),
            server_groups=ServerGroups(self.client, KEYS),
            server_group_changes=ServerGroupChanges(self.client, writer),
            explanations=Explanations(self.client, KEYS),
            survey=Survey(self.client, KEYS),
            repairs=Repairs(self.client, writer),
            orphans=Orphans(self.client, writer),
            drains=Drains(self.client, KEYS),
            drain_changes=DrainChanges(self.client, writer),
            host_operations=HostOperations(self.client, writer),
            closing=Closing(self.client, KEYS),
            default_network_cidr=cidr,
            resources=resources,
        )
        self.events = Events(self.client, KEYS)
        self.door = Door(store=self.store, now=self.clock.now)
        self.post = Post(self)
        self.settler = Settler(
            store=self.store,
            flows=flows,
            now=self.clock.now,
            max_reschedules=max_reschedules,
            tell=self.post.tell_of_ports,
        )
        self.reclaimed: list[str] = []
        self.asked: list[tuple[str, OperationId, Facts]] = []
        """Operations that periodic work has asked for, and that have not been let in yet."""
        self.sweep = Sweep(
            store=self.store,
            launch=self.post.launch,
            reclaim=self._reclaim,
            now=self.clock.now,
            period_s=PERIOD_S,
        )
        self.hosts = {
            HostName(name): self._open_host(
                HostName(name), root / name, (memory_mib or {}).get(name, 64 * 1024), f"192.0.2.{number}"
            )
            for number, name in enumerate(hosts, start=1)
        }
        for host in self.hosts.values():
            self.note_alive(host.name)
            host.report.track()

    def _open_host(self, name: HostName, root: Path, memory_mib: int, tunnel_address: str) -> SimulatedHost:
        hypervisor, disks = SimulatedHypervisor(root, memory_mib=memory_mib), SimulatedDisks(root)
        links = HostLinks(tunnel_address=tunnel_address)
        ports = Ports(
            host_links=links,
            hypervisor=hypervisor,
            disks=disks,
            images=SimulatedImageCache(root),
            fabric=SimulatedFabric(root),
            vendor_data=VendorDataFile(None),
            networks=RememberedNetworks(self.store.catalog, self.store.surroundings),
            clock=self.clock,
            limits=StepLimits(instances_dir=str(root / "instances"), shutdown_timeout_s=60, soft_reboot_timeout_s=120),
            choices=self._choices,
            volumes=SimulatedVolumes(root),
        )
        ratios = Ratios(vcpu_ratio=4.0, memory_ratio=1.0, disk_ratio=1.0, reserved_memory_mib=0, reserved_disk_gib=0)
        return SimulatedHost(
            name=name,
            root=root,
            ports=ports,
            runner=self._runner(name, root, ports, self.store.journal),
            report=HostReport(
                store=self.store,
                host=name,
                hypervisor=hypervisor,
                disks=disks,
                tracker=Tracker(
                    store=self.store,
                    host=name,
                    hypervisor=hypervisor,
                    disks=disks,
                    images=ports.images,
                    ratios=ratios,
                    now=self.clock.now,
                    links=links,
                ),
                now=self.clock.now,
                ask=self.ask_later,
            ),
            plugs=PlugCheck(store=self.store, host=name, ports=ports, exclusion=InstanceLocks(root / "locks")),
            ticker=Ticker(
                ticks=self.store.ticks,
                host=name,
                turns=HostTickLocks(root / "locks" / "ticks"),
                now=self.clock.now,
                steady=self.clock.now,
            ),
            keeper=RecordKeeper(store=self.store, host=name, ports=ports, exclusion=InstanceLocks(root / "locks")),
            outsider=SimulatedOutsider(root),
            neighbour=SimulatedNeighbour(root),
        )

    def _runner(
        self, name: HostName, root: Path, ports: Ports, journal: Journal, incarnation: str = INCARNATION
    ) -> StepRunner:
        return StepRunner(
            flows=self.flows,
            journal=journal,
            ports=ports,
            exclusion=InstanceLocks(root / "locks"),
            runner=Runner(host=name, incarnation=incarnation, pid=1),
            time_up=(TimeIsUp,),
        )

    def _reclaim(self, host: HostName) -> int:
        self.reclaimed.append(host)
        return 0

    def ask_later(self, flow: str, operation_id: OperationId, fields: Facts) -> None:
        """As `TickTasks.ask`."""
        self.asked.append((flow, operation_id, fields))

    def take_asked(self) -> None:
        """What periodic work has asked for is let in and carried on until nothing is in the post."""
        while self.asked:
            flow, operation_id, fields = self.asked.pop(0)
            self.ask(flow, operation_id, **fields)

    def watch(self, on_call: OnCall, *, host: str = "h1") -> None:
        """From now on `on_call` is told of every call that the host's runner makes, to ports and journal."""
        there = self.hosts[HostName(host)]
        ports = watched_ports(there.ports, on_call)
        journal: Journal = watched(self.store.journal, "journal", on_call)
        there.runner = self._runner(there.name, there.root, ports, journal)

    def use_port(self, name: str, port: object) -> None:
        """From now on h1's runner uses this port in place of its own, until the host is restarted."""
        there = self.hosts[HostName("h1")]
        changed: Ports = replace(there.ports, **{name: port})  # type: ignore[arg-type]  # used is checked
        there.runner = self._runner(there.name, there.root, changed, self.store.journal)

    def restart(self, host: str = "h1", *, incarnation: str = "second") -> None:
        """The host's node died and is back, as workers/host.py's init_host: its unsettled operations are sent on."""
        there = self.hosts[HostName(host)]
        there.runner = self._runner(there.name, there.root, there.ports, self.store.journal, incarnation)
        self.store.hosts.note_alive(there.name, incarnation, keep_s=3600)
        for operation_id in self.store.catalog.list_unsettled_on(there.name):
            self.post.launch(self.read(operation_id))

    def note_alive(self, host: str) -> None:
        self.store.hosts.note_alive(HostName(host), INCARNATION, keep_s=3600)

    def close(self) -> None:
        if not self._lent:
            self.client.close()

    def answer(self, flow: str, operation_id: str, fields: Mapping[str, Any]) -> Answer:
        """What the door says."""
        op = OperationId(operation_id)
        if flow == "instance.build":
            return self.door.build(op, dict(fields))
        return self.door.change(flow, op, dict(fields))

    def begin(self, flow: str, operation_id: str, **fields: Any) -> Operation:
        """The operation is let in and its first messages are in the post."""
        answer = self.answer(flow, operation_id, fields)
        assert isinstance(answer, Admitted), answer
        self.post.tell_of_ports(answer.come, aware=answer.operation.host)
        if answer.stopping is not None:
            self.post.launch(answer.stopping)
        self.post.launch(answer.operation)
        return answer.operation

    def ask(self, flow: str, operation_id: str, **fields: Any) -> Operation:
        """The operation is let in and carried on until nothing is in the post. Its result is as docs/schema says."""
        self.begin(flow, operation_id, **fields)
        self.post.deliver_all()
        operation = self.read(operation_id)
        if operation.phase is Phase.SUCCEEDED:
            require_published_result(flow, operation.result)
        return operation

    def build(self, name: str = "web", operation_id: str | None = None, **fields: Any) -> Operation:
        """A small guest is built, or its build has failed."""
        asked = {"name": name, "image": IMAGE, "flavor": SMALL, **fields}
        return self.ask("instance.build", operation_id or f"build-{name}", **asked)

    def begin_build(self, name: str = "web", operation_id: str | None = None, **fields: Any) -> Operation:
        """The build of a small guest is let in."""
        asked = {"name": name, "image": IMAGE, "flavor": SMALL, **fields}
        return self.begin("instance.build", operation_id or f"build-{name}", **asked)

    def read(self, operation_id: str) -> Operation:
        """The operation's record, which must be there."""
        operation = self.store.catalog.read_operation(OperationId(operation_id))
        assert operation is not None, f"no operation {operation_id}"
        return operation

    def instance(self, name: str = "web") -> Instance:
        """The instance's record, which must be there."""
        instance = self.store.catalog.find_instance(name)
        assert instance is not None, f"no instance {name}"
        return instance
