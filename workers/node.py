"""Everything one process opens, each part when it is first asked for: the composition root.

Invariant: nothing opened here crosses a fork. A process that finds itself with its parent's node opens its own.
"""

import os
import time
from functools import cached_property

from tasks.asking import Ask
from tasks.build_time_out import BuildTimeOut
from tasks.door import Door
from tasks.flows import FLOWS
from tasks.host_repair import HostRepairs
from tasks.host_watch import HostWatch
from tasks.image_upkeep import ImageUpkeep
from tasks.keeping import RecordKeeper
from tasks.monitoring import HostMonitor
from tasks.orphans import OrphanPatrol
from tasks.periodic import HostReport, Launch, Settler, Sweep, TellOfPorts
from tasks.reclaiming import Reclaimer
from tasks.recovering import Recovery, Resumption
from tasks.replug import PlugCheck
from tasks.step_tasks import TIME_UP
from tasks.store import RememberedNetworks, Store
from tasks.ticking import Ticker
from tasks.tracing import Tracing
from tasks.tracking import Tracker
from tasks.usage_audit import UsageAudit
from taskvisor.compute.monitors import load_monitors
from taskvisor.compute.orphans import policy_of
from taskvisor.compute.placement import Placer
from taskvisor.flow.ports import Clock, Ports
from taskvisor.flow.runner import StepRunner
from taskvisor.model.identity import Role
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Runner
from taskvisor.model.queues import COMPUTE_QUEUE
from taskvisor.settings import Settings
from taskvisor.state.addresses import Addresses
from taskvisor.state.admission import Admission
from taskvisor.state.aggregates import AggregateChanges, Aggregates
from taskvisor.state.catalog import Catalog
from taskvisor.state.closing import Closing
from taskvisor.state.connection import asking, open_redis
from taskvisor.state.counters import Counters
from taskvisor.state.drains import DrainChanges, Drains
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
from taskvisor.state.series import Series
from taskvisor.state.server_group_changes import ServerGroupChanges
from taskvisor.state.server_groups import ServerGroups
from taskvisor.state.silence import Silence
from taskvisor.state.surroundings import SurroundingsReader
from taskvisor.state.survey import Survey
from taskvisor.state.ticks import Ticks
from taskvisor.state.trips import CountedRedis
from taskvisor.state.usage import UsageRecords
from taskvisor.state.waiting import Waiting
from taskvisor.state.writing import OutcomeFor, Writer
from virt.seeds.vendor_data import VendorDataFile
from workers.adapters import open_adapters
from workers.choices import (
    host_links_of,
    monitor_names_of,
    open_table_of,
    operator_choices_of,
    placement_rules_of,
    ratios_of,
    step_limits_of,
    vendor_data_path_of,
)
from workers.inflight import reclaim_inflight
from workers.locks import HostTickLocks, InstanceLocks
from workers.machine import read_boot_id
from workers.open_tracing import open_tracing
from workers.store_notes import StoreNotesFile
from workers.trips import TripTeller


class SystemClock:
    """Implements the flow engine's `Clock`."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class OpenNode:
    """Implements the edge's `Node` for one process."""

    def __init__(
        self,
        settings: Settings,
        *,
        incarnation: str,
        outcome_for: OutcomeFor,
        launch: Launch,
        tell: TellOfPorts,
        ask: Ask,
        roles: tuple[Role, ...] = (),
    ) -> None:
        """`roles`: what the node is for whose process this is; empty for one that is no node's."""
        self.pid = os.getpid()
        self.settings = settings
        self.host = HostName(settings.host)
        self._incarnation = incarnation
        self._outcome_for = outcome_for
        self._launch = launch
        self._tell = tell
        self._ask = ask
        self._roles = roles
        self._clock: Clock = SystemClock()

    @cached_property
    def redis(self) -> CountedRedis:
        return open_redis(self.settings.redis_url, timeout_s=self.settings.redis_timeout_s)

    @cached_property
    def trips(self) -> TripTeller:
        node = "+".join(role.value for role in self._roles) or "other"
        return TripTeller(self.redis.tally, self.store.counters, node)

    @cached_property
    def tracing(self) -> Tracing:
        return open_tracing(self.settings, self.redis)

    @cached_property
    def store(self) -> Store:
        keys = Keys(self.settings.key_prefix)
        writer = Writer(
            keys=keys,
            operation_keep_s=self.settings.operation_keep_s,
            events_kept=self.settings.events_kept,
            outcome_for=self._outcome_for,
            build_failures_limit=self.settings.build_failures_limit,
        )
        return Store(
            catalog=Catalog(self.redis, keys),
            admission=Admission(self.redis, writer),
            addresses=Addresses(self.redis, keys),
            hosts=Hosts(self.redis, keys),
            identities=Identities(self.redis, keys),
            images=Images(self.redis, writer),
            journal=RedisJournal(self.redis, writer),
            counters=Counters(self.redis, keys),
            networks=Networks(self.redis, writer),
            groups=SecurityGroups(self.redis, keys),
            group_changes=GroupChanges(self.redis, writer),
            floating=FloatingAddresses(self.redis, keys),
            floating_changes=FloatingChanges(self.redis, writer),
            port_changes=PortChanges(self.redis, writer),
            flavors=Flavors(self.redis, keys),
            flavor_changes=FlavorChanges(self.redis, writer),
            surroundings=SurroundingsReader(self.redis, keys),
            closing=Closing(self.redis, keys),
            ticks=Ticks(self.redis, keys),
            waiting=Waiting(self.redis, keys),
            silence=Silence(self.redis, writer),
            usage=UsageRecords(self.redis, keys),
            fleet=FleetView(self.redis, keys),
            aggregates=Aggregates(self.redis, keys),
            aggregate_changes=AggregateChanges(self.redis, writer),
            host_changes=HostChanges(self.redis, writer),
            server_groups=ServerGroups(self.redis, keys),
            server_group_changes=ServerGroupChanges(self.redis, writer),
            explanations=Explanations(self.redis, keys),
            survey=Survey(self.redis, keys),
            repairs=Repairs(self.redis, writer),
            orphans=Orphans(self.redis, writer),
            drains=Drains(self.redis, keys),
            drain_changes=DrainChanges(self.redis, writer),
            host_operations=HostOperations(self.redis, writer),
            default_network_cidr=self.settings.default_network_cidr,
            resources=open_table_of(self.settings),
        )

    @cached_property
    def door(self) -> Door:
        return Door(store=self.store, now=self._clock.now, config_drive=self.settings.config_drive, placer=self.placer)

    @cached_property
    def placer(self) -> Placer:
        """By the operator's rules; Refused names a rule that nobody has."""
        return Placer(placement_rules_of(self.settings))

    @cached_property
    def ports(self) -> Ports:
        adapters = open_adapters(self.settings)
        return Ports(
            hypervisor=adapters.hypervisor,
            disks=adapters.disks,
            images=adapters.images,
            fabric=adapters.fabric,
            volumes=adapters.volumes,
            vendor_data=VendorDataFile(vendor_data_path_of(self.settings)),
            networks=RememberedNetworks(self.store.catalog, self.store.surroundings),
            clock=self._clock,
            limits=step_limits_of(self.settings),
            choices=operator_choices_of(self.settings),
            host_links=host_links_of(self.settings),
        )

    @cached_property
    def runner(self) -> StepRunner:
        return StepRunner(
            flows=FLOWS,
            journal=self.store.journal,
            ports=self.ports,
            exclusion=self._exclusion,
            runner=Runner(host=self.host, incarnation=self._incarnation, pid=self.pid),
            time_up=TIME_UP,
        )

    @property
    def _exclusion(self) -> InstanceLocks:
        return InstanceLocks(self.settings.state_dir / "locks" / "instances")

    @cached_property
    def plugs(self) -> PlugCheck:
        return PlugCheck(store=self.store, host=self.host, ports=self.ports, exclusion=self._exclusion)

    @cached_property
    def recovery(self) -> Recovery:
        return Recovery(
            store=self.store,
            host=self.host,
            hypervisor=self.ports.hypervisor,
            door=self.door,
            launch=self._launch,
            now=self._clock.now,
            boot_id=read_boot_id(),
            resumption=Resumption(
                wished=self.settings.resume_guests,
                at_once=self.settings.step_concurrency,
                stagger_s=self.settings.resume_stagger_s,
            ),
        )

    @cached_property
    def repairs(self) -> HostRepairs:
        return HostRepairs(
            store=self.store,
            host=self.host,
            ports=self.ports,
            exclusion=self._exclusion,
            plugs=self.plugs,
            report=self.report,
        )

    @cached_property
    def orphans(self) -> OrphanPatrol:
        return OrphanPatrol(
            store=self.store,
            host=self.host,
            ports=self.ports,
            exclusion=self._exclusion,
            notes=StoreNotesFile(self.settings.state_dir / "store.json"),
            policy=policy_of(self.settings),
        )

    @cached_property
    def keeper(self) -> RecordKeeper:
        return RecordKeeper(store=self.store, host=self.host, ports=self.ports, exclusion=self._exclusion)

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep(
            store=self.store,
            launch=self._launch,
            reclaim=self._reclaim,
            now=self._clock.now,
            period_s=self.settings.sweep_s,
        )

    @property
    def drain_at_once(self) -> int:
        return self.settings.drain_at_once

    def _reclaim(self, host: HostName) -> int:
        with asking(f"take back the requests that host {host} has in flight"):
            return reclaim_inflight(self.redis, COMPUTE_QUEUE, host)

    @cached_property
    def settler(self) -> Settler:
        return Settler(
            store=self.store,
            flows=FLOWS,
            now=self._clock.now,
            max_reschedules=self.settings.max_reschedules,
            tell=self._tell,
            placer=self.placer,
        )

    @cached_property
    def report(self) -> HostReport:
        return HostReport(
            store=self.store,
            host=self.host,
            hypervisor=self.ports.hypervisor,
            disks=self.ports.disks,
            tracker=Tracker(
                store=self.store,
                host=self.host,
                hypervisor=self.ports.hypervisor,
                disks=self.ports.disks,
                images=self.ports.images,
                ratios=ratios_of(self.settings),
                now=self._clock.now,
                links=host_links_of(self.settings),
            ),
            now=self._clock.now,
            ask=self._ask,
            power_policy=self.settings.power_policy,
        )

    @cached_property
    def ticker(self) -> Ticker:
        return Ticker(
            ticks=self.store.ticks,
            host=self.host,
            turns=HostTickLocks(self.settings.state_dir / "locks" / "ticks"),
            now=self._clock.now,
            steady=time.monotonic,
        )

    @cached_property
    def monitor(self) -> HostMonitor:
        settings = self.settings
        series = Series(
            self.redis, Keys(settings.key_prefix), samples=settings.monitor_samples, period_s=settings.monitor_s
        )
        return HostMonitor(
            host=self.host,
            ports=self.ports,
            catalog=self.store.catalog,
            series=series,
            counters=self.store.counters,
            monitors=load_monitors(monitor_names_of(settings)),
            now=self._clock.now,
            steady=time.monotonic,
        )

    @cached_property
    def host_watch(self) -> HostWatch:
        return HostWatch(store=self.store, now=self._clock.now)

    @cached_property
    def build_time_out(self) -> BuildTimeOut:
        return BuildTimeOut(
            store=self.store,
            door=self.door,
            launch=self._launch,
            now=self._clock.now,
            limit_s=self.settings.instance_build_timeout_s,
            period_s=self.settings.build_check_s,
        )

    @cached_property
    def reclaimer(self) -> Reclaimer:
        return Reclaimer(
            store=self.store,
            host=self.host,
            ask=self._ask,
            now=self._clock.now,
            reclaim_s=self.settings.reclaim_s,
            period_s=self.settings.reclaim_check_s,
        )

    @cached_property
    def image_upkeep(self) -> ImageUpkeep:
        return ImageUpkeep(
            catalog=self.store.catalog,
            host=self.host,
            images=self.ports.images,
            disks=self.ports.disks,
            names=tuple(filter(None, self.settings.prewarm_images.split(","))),
        )

    @cached_property
    def usage_audit(self) -> UsageAudit:
        return UsageAudit(store=self.store, host=self.host, now=self._clock.now, period_s=self.settings.usage_audit_s)
