"""Everything one process opens, each part when it is first asked for: the composition root.

Invariant: nothing opened here crosses a fork. A process that finds itself with its parent's node opens its own.
"""

import os
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.asking import Ask
from tasks.build_time_out import BuildTimeOut
from tasks.door import Door
from tasks.edge import COMPUTE_QUEUE, TIME_UP
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
from tasks.store import RememberedNetworks, Store
from tasks.ticking import Ticker
from tasks.tracing import Tracing
from tasks.tracking import Tracker
from tasks.usage_audit import UsageAudit
from taskvisor.compute.inventory import Ratios
from taskvisor.compute.monitors import load_monitors
from taskvisor.compute.orphans import policy_of
from taskvisor.compute.placement import PACK, SPREAD, Placer, Rules, rules_for
from taskvisor.compute.resources.kind import ResourceChoices
from taskvisor.compute.resources.registry import open_table
from taskvisor.compute.resources.table import ResourceTable
from taskvisor.flow.ports import Clock, Disks, Fabric, Hypervisor, ImageCache, Ports, StepLimits, Volumes
from taskvisor.flow.runner import StepRunner
from taskvisor.model.cpu_list import parse_cpu_list
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.host_links import parse_physical_networks
from taskvisor.model.identity import Role
from taskvisor.model.ids import HostName
from taskvisor.model.network import HostLinks
from taskvisor.model.operation import Runner
from taskvisor.model.operator import CephAccess, OperatorChoices, Vendor
from taskvisor.model.resource_texts import parse_pci_aliases, parse_pci_devices, parse_ratios, parse_reserved
from taskvisor.model.snapshot import Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from taskvisor.model.weights import parse_weights
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
from workers.inflight import reclaim_inflight
from workers.locks import HostTickLocks, InstanceLocks
from workers.machine import read_boot_id
from workers.open_tracing import open_tracing
from workers.store_notes import StoreNotesFile
from workers.trips import TripTeller

if TYPE_CHECKING:
    from virt.stores.opening import StoreOptions

GIB = 1024**3


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
        state_dir, simulated = self.settings.state_dir, self.settings.driver == "simulated"
        hypervisor, disks, images, fabric, volumes = (
            _open_simulated(state_dir / "simulated", self.settings.image_keep_s)
            if simulated
            else _open_real(self.settings)
        )
        return Ports(
            hypervisor=hypervisor,
            disks=disks,
            images=images,
            fabric=fabric,
            vendor_data=VendorDataFile(vendor_data_path_of(self.settings)),
            networks=RememberedNetworks(self.store.catalog, self.store.surroundings),
            clock=self._clock,
            limits=StepLimits(
                instances_dir=str((state_dir / "simulated" if simulated else state_dir) / "instances"),
                shutdown_timeout_s=self.settings.shutdown_timeout_s,
                soft_reboot_timeout_s=self.settings.soft_reboot_timeout_s,
                snapshot_encoding=SnapshotEncoding(
                    format=ImageFormat(self.settings.snapshot_format),
                    compression=Compression(self.settings.snapshot_compression),
                ),
                detach_timeout_s=self.settings.detach_timeout_s,
                metadata_service=self.settings.metadata_service,
            ),
            choices=operator_choices_of(self.settings),
            volumes=volumes,
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
                ratios=_ratios_of(self.settings),
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


def placement_rules_of(settings: Settings) -> Rules:
    """The rules that hosts are judged and weighed by. Refused names one that nobody has, with those that are known."""
    filters = tuple(filter(None, settings.filters.split(",")))
    return rules_for(filters, parse_weights(settings.weights), PACK if settings.placement == "pack" else SPREAD)


Adapters = tuple[Hypervisor, Disks, ImageCache, Fabric, Volumes]


def _open_real(settings: Settings) -> Adapters:
    """Imported here, so that a process that runs no steps, or simulates them, does not carry libvirt and netlink."""
    from net.fabric import LinuxFabric  # noqa: PLC0415
    from virt.disks import LocalDisks  # noqa: PLC0415
    from virt.hypervisor import LibvirtHypervisor  # noqa: PLC0415
    from virt.volumes import open_host_volumes  # noqa: PLC0415

    root = settings.state_dir
    return (
        LibvirtHypervisor(
            settings.libvirt_uri, virt_type=settings.virt_type, lists_pci_devices=bool(settings.pci_devices)
        ),
        LocalDisks(root, store_options_of(settings)),
        open_image_cache(settings),
        LinuxFabric(root, ovsdb=settings.ovsdb),
        open_host_volumes(root, tuple(filter(None, settings.volume_roots.split(",")))),
    )


def store_options_of(settings: Settings) -> "StoreOptions":
    """How disks are made on this host."""
    from virt.stores.opening import StoreOptions  # noqa: PLC0415

    return StoreOptions(
        backend=_disk_backend_of(settings),
        preallocation=settings.raw_preallocation,
        thin_pool=settings.lvm_thin_pool,
        ceph=_ceph_access_of(settings),
    )


def _disk_backend_of(settings: Settings) -> DiskBackend:
    pools = {BackendKind.LVM: settings.lvm_group, BackendKind.RBD: settings.rbd_pool}
    return DiskBackend(kind=settings.disk_backend, pool=pools.get(settings.disk_backend, ""))


def open_image_cache(settings: Settings) -> ImageCache:
    """The cache of this host. By path, of the state directory only published snapshots are read: the rest is guests' own."""
    from virt.images.cache import LocalImageCache  # noqa: PLC0415
    from virt.images.source import KERNEL_DIRECTORIES, SourceLimits  # noqa: PLC0415

    root = settings.state_dir.resolve()  # a path that is asked for is judged by where it really leads
    snapshots = root / "images"
    limits = SourceLimits(
        image_bytes=settings.max_image_gib * GIB,
        file_roots=(*(Path(named).resolve() for named in settings.image_roots.split(":")), snapshots),
        closed_directories=(*KERNEL_DIRECTORIES, root),
        open_directories=(snapshots,),
        store_schemes=frozenset(filter(None, settings.image_stores.split(","))),
    )
    return LocalImageCache(
        settings.state_dir / "cache",
        limits=limits,
        virtual_limit_bytes=settings.max_image_disk_gib * GIB,
        disk_roots=(root / "instances", snapshots),
        evict_after_s=settings.image_keep_s,
    )


def operator_choices_of(settings: Settings) -> OperatorChoices:
    """What the settings say of all guests; where they are empty, what is so without them."""
    return OperatorChoices(
        dialect=settings.definition_dialect,
        metadata_dialect=settings.metadata_dialect,
        vendor=Vendor(
            manufacturer=settings.smbios_manufacturer,
            product=settings.smbios_product,
            version=settings.smbios_version or None,
            serial=settings.smbios_serial or None,
        ),
        vnc_address=settings.vnc_address,
        vnc_keymap=settings.vnc_keymap or None,
        video_model=settings.video_model,
        kernel_roots=tuple(filter(None, settings.kernel_roots.split(":"))),
        shared_cpus=parse_cpu_list(settings.shared_cpus),
        dedicated_cpus=parse_cpu_list(settings.dedicated_cpus),
        ceph=_ceph_access_of(settings),
        disk_backend=_disk_backend_of(settings),
    )


def host_links_of(settings: Settings) -> HostLinks:
    """What the settings say that this host is connected to."""
    return HostLinks(
        uplinks=parse_physical_networks(settings.physical_networks), tunnel_address=settings.tunnel_address or None
    )


def monitor_names_of(settings: Settings) -> tuple[str, ...]:
    """What is measured, by the names of monitors."""
    return tuple(filter(None, settings.monitors.split(",")))


def vendor_data_path_of(settings: Settings) -> Path | None:
    """The file with what the operator tells every guest's cloud-init."""
    return Path(settings.vendor_data_file) if settings.vendor_data_file else None


def _ceph_access_of(settings: Settings) -> CephAccess | None:
    if not settings.ceph_user:
        return None
    return CephAccess(
        user=settings.ceph_user,
        secret_uuid=settings.ceph_secret_uuid or None,
        monitors=tuple(filter(None, settings.ceph_monitors.split(","))),
        config_file=settings.ceph_config_file,
    )


def _open_simulated(root: Path, evict_after_s: float) -> Adapters:
    """Imported here, for the same reason."""
    from net.simulated import SimulatedFabric  # noqa: PLC0415
    from virt.simulated import (  # noqa: PLC0415
        SimulatedDisks,
        SimulatedHypervisor,
        SimulatedImageCache,
        SimulatedVolumes,
    )

    return (
        SimulatedHypervisor(root),
        SimulatedDisks(root),
        SimulatedImageCache(root, evict_after_s=evict_after_s),
        SimulatedFabric(root),
        SimulatedVolumes(root),
    )


def open_table_of(settings: Settings) -> ResourceTable:
    """The kinds of resources that guests claim. UnknownKind when one that is named can't be had."""
    choices = ResourceChoices(
        guest_overhead_mib=settings.guest_overhead_mib,
        dedicated_cpus=parse_cpu_list(settings.dedicated_cpus),
        pci_devices=parse_pci_devices(settings.pci_devices),
        pci_aliases=parse_pci_aliases(settings.pci_aliases),
    )
    return open_table(filter(None, settings.resources.split(",")), choices)


def _ratios_of(settings: Settings) -> Ratios:
    return Ratios(
        vcpu_ratio=settings.vcpu_ratio,
        memory_ratio=settings.memory_ratio,
        disk_ratio=settings.disk_ratio,
        reserved_memory_mib=settings.reserved_memory_mib,
        reserved_disk_gib=settings.reserved_disk_gib,
        reserved_cpus=settings.reserved_cpus,
        ratios=parse_ratios(settings.resource_ratios),
        reserved=parse_reserved(settings.reserved_resources),
    )
