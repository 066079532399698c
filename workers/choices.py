"""What the settings say of a host and its guests, in the words of the model: pure. Must never open anything."""

from pathlib import Path

from taskvisor.compute.inventory import Ratios
from taskvisor.compute.placement import PACK, SPREAD, Rules, rules_for
from taskvisor.compute.resources.kind import ResourceChoices
from taskvisor.compute.resources.registry import open_table
from taskvisor.compute.resources.table import ResourceTable
from taskvisor.flow.ports import StepLimits
from taskvisor.model.cpu_list import parse_cpu_list
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.host_links import parse_physical_networks
from taskvisor.model.network import HostLinks
from taskvisor.model.operator import CephAccess, OperatorChoices, Vendor
from taskvisor.model.resource_texts import parse_pci_aliases, parse_pci_devices, parse_ratios, parse_reserved
from taskvisor.model.snapshot import Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from taskvisor.model.weights import parse_weights
from taskvisor.settings import Settings


def root_of(settings: Settings) -> Path:
    """The directory that guests lie below: those that are simulated have one of their own."""
    return settings.state_dir / "simulated" if settings.driver == "simulated" else settings.state_dir


def step_limits_of(settings: Settings) -> StepLimits:
    """What steps may take, and how they do what can be done in several ways."""
    return StepLimits(
        instances_dir=str(root_of(settings) / "instances"),
        shutdown_timeout_s=settings.shutdown_timeout_s,
        soft_reboot_timeout_s=settings.soft_reboot_timeout_s,
        snapshot_encoding=SnapshotEncoding(
            format=ImageFormat(settings.snapshot_format), compression=Compression(settings.snapshot_compression)
        ),
        detach_timeout_s=settings.detach_timeout_s,
        metadata_service=settings.metadata_service,
    )


def placement_rules_of(settings: Settings) -> Rules:
    """The rules that hosts are judged and weighed by. Refused names one that nobody has, with those that are known."""
    filters = tuple(filter(None, settings.filters.split(",")))
    return rules_for(filters, parse_weights(settings.weights), PACK if settings.placement == "pack" else SPREAD)


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
        ceph=ceph_access_of(settings),
        disk_backend=disk_backend_of(settings),
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


def open_table_of(settings: Settings) -> ResourceTable:
    """The kinds of resources that guests claim. UnknownKind when one that is named can't be had."""
    choices = ResourceChoices(
        guest_overhead_mib=settings.guest_overhead_mib,
        dedicated_cpus=parse_cpu_list(settings.dedicated_cpus),
        pci_devices=parse_pci_devices(settings.pci_devices),
        pci_aliases=parse_pci_aliases(settings.pci_aliases),
    )
    return open_table(filter(None, settings.resources.split(",")), choices)


def ratios_of(settings: Settings) -> Ratios:
    """How much more may be claimed than there is, and what is kept back, as the settings say."""
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


def disk_backend_of(settings: Settings) -> DiskBackend:
    """Where guests' own disks lie on this host."""
    pools = {BackendKind.LVM: settings.lvm_group, BackendKind.RBD: settings.rbd_pool}
    return DiskBackend(kind=settings.disk_backend, pool=pools.get(settings.disk_backend, ""))


def ceph_access_of(settings: Settings) -> CephAccess | None:
    """How guests get at Ceph; None where there is none."""
    if not settings.ceph_user:
        return None
    return CephAccess(
        user=settings.ceph_user,
        secret_uuid=settings.ceph_secret_uuid or None,
        monitors=tuple(filter(None, settings.ceph_monitors.split(","))),
        config_file=settings.ceph_config_file,
    )
