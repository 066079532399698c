"""Every option, with its unit, its default and the reason for it. The only reader of the environment.

Each option is an environment variable `TASKVISOR_<NAME>`; a file of such lines may be named by `TASKVISOR_ENV_FILE`.
"""

import os
import re
import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from taskvisor.model.cpu_list import parse_cpu_list
from taskvisor.model.disk_backend import BackendKind, Preallocation
from taskvisor.model.host_links import parse_physical_networks
from taskvisor.model.image_url import OBJECT_STORES
from taskvisor.model.operator import Dialect, MetadataDialect
from taskvisor.model.queues import reads_as_a_list
from taskvisor.model.resource_texts import parse_pci_aliases, parse_pci_devices, parse_ratios, parse_reserved
from taskvisor.model.states import PowerPolicy, SeedKind
from taskvisor.model.volume import VolumeScheme
from taskvisor.model.webhook_urls import parse_webhook_urls
from taskvisor.model.weights import parse_weights

HOST_NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$"


def _names_no_queue(host: str) -> str:
    """A host's name is part of the names of its queues: none may read as another host's."""
    if reads_as_a_list(host):
        raise ValueError("must not end in .control or .dead, nor hold .inflight.: its queues would be another's")
    return host


def _absolute_directories(directories: str) -> str:
    if not all(directory.startswith("/") and ".." not in Path(directory).parts for directory in directories.split(":")):
        raise ValueError("must be absolute paths without '..', with colons between them")
    return directories


def _directories_or_none(directories: str) -> str:
    return _absolute_directories(directories) if directories else directories


def _address(address: str) -> str:
    try:
        return str(ip_address(address))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address, like 127.0.0.1; 0.0.0.0 is all of the host's") from None


def _cpu_list(cpus: str) -> str:
    parse_cpu_list(cpus)
    return cpus


def _object_stores(schemes: str) -> str:
    if unknown := set(filter(None, schemes.split(","))) - OBJECT_STORES:
        raise ValueError(
            f"must be of {', '.join(sorted(OBJECT_STORES))}, with commas between them; not {min(unknown)!r}"
        )
    return schemes


def _volume_roots(roots: str) -> str:
    for root in filter(None, roots.split(",")):
        scheme, colon, rest = root.partition("://")
        if scheme not in tuple(VolumeScheme) or not colon or not rest.strip("/") or ".." in rest.split("/"):
            raise ValueError(
                f"must be beginnings of URLs, like file:///srv/volumes or rbd://pool, with commas between them; not {root!r}"
            )
    return roots


def _physical_networks(pairs: str) -> str:
    parse_physical_networks(pairs)
    return pairs


def _checked_by(parse: Callable[[str], object]) -> Callable[[str], str]:
    """The text as it is, once it parses."""

    def checked(text: str) -> str:
        parse(text)
        return text

    return checked


def _names(names: str) -> str:
    if not all(re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) for name in filter(None, names.split(","))):
        raise ValueError("must be names in small letters, digits and underscores, with commas between them")
    return names


def _weights(pairs: str) -> str:
    parse_weights(pairs)
    return pairs


def _address_or_none(address: str) -> str:
    return _address(address) if address else address


SmbiosText = Annotated[str, Field(max_length=64, pattern=r"^[ -~]*$")]
"""Printable ASCII: what a guest's firmware can show."""


class Settings(BaseSettings):
    """What an operator may choose. Immutable once read."""

    model_config = SettingsConfigDict(
        env_prefix="TASKVISOR_", frozen=True, extra="ignore", env_file=os.environ.get("TASKVISOR_ENV_FILE")
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    """Broker, results and records: one Redis, so that an outcome and its record are one transaction."""

    key_prefix: str = "taskvisor:"
    """In front of every key of ours; Celery's own keys keep their names."""

    host: Annotated[str, Field(pattern=HOST_NAME_PATTERN), AfterValidator(_names_no_queue)] = socket.gethostname()
    """This host's name in the fleet: it names its queues, and its records bear it. Must not change."""

    state_dir: Path = Path("/var/lib/taskvisor")
    """Instances, image cache, snapshots, leases of DHCP, locks. Must survive a reboot."""

    driver: Literal["libvirt", "simulated"] = "libvirt"
    """`simulated` keeps guests as small files: for producers who test without KVM, and to measure the control plane."""

    libvirt_uri: str = "qemu:///system"
    """The hypervisor of this host, by libvirt's name of the connection."""

    virt_type: Literal["auto", "kvm", "qemu"] = "auto"
    """`auto`: kvm where /dev/kvm opens and, on x86, the CPU shows vmx or svm; else qemu (software emulation)."""

    default_network_cidr: str = "10.152.0.0/16"
    """Of the network `default`, made at first use. Local to each host and translated on the way out."""

    physical_networks: Annotated[str, AfterValidator(_physical_networks)] = ""
    """Like physnet1=eth1,physnet2=bond0: this host's interface on each physical network, for networks of the kinds flat, vlan and
    macvtap. Of `flat` it must have no addresses. Empty: none."""

    tunnel_address: Annotated[str, AfterValidator(_address_or_none)] = ""
    """An address of this host, v4 or v6, that the other hosts reach: its end of tunnels, for networks of the kind vxlan. What
    arrives there on UDP port 4789 is believed: let it through from the other hosts only. Empty: none."""

    step_concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Processes that run steps on this host: so many disks are copied or guests started at once."""

    control_concurrency: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that take requests and run periodic work on this host."""

    vcpu_ratio: Annotated[float, Field(gt=0, le=64)] = 4.0
    """Virtual CPUs that may be claimed per CPU. Nova's present default."""

    memory_ratio: Annotated[float, Field(gt=0, le=8)] = 1.0
    """MiB that may be claimed per MiB. Above 1 guests may want more than there is, and the kernel then kills one of them."""

    disk_ratio: Annotated[float, Field(gt=0, le=64)] = 1.0
    """GiB that may be claimed per GiB. Above 1 disks may want to grow when there is no more room."""

    reserved_memory_mib: Annotated[int, Field(ge=0)] = 512
    """Kept for the host itself. Nova's default."""

    reserved_disk_gib: Annotated[int, Field(ge=0)] = 0
    """Kept for the host itself: images that are cached, logs."""

    reserved_cpus: Annotated[int, Field(ge=0, le=4096)] = 0
    """CPUs that are kept for the host itself: they are not promised, not even once. Nova's reserved_host_cpus."""

    resources: Annotated[str, Field(pattern=r"^([A-Za-z0-9_.-]{1,64}(,[A-Za-z0-9_.-]{1,64})*)?$")] = ""
    """Kinds of resources besides our own, by the names of their entry points in the group `taskvisor.resources`, with commas
    between them: the same on all hosts. Ours are always there."""

    resource_ratios: Annotated[str, AfterValidator(_checked_by(parse_ratios))] = ""
    """Like gpu=2: how often further amounts may be promised. Empty: once each."""

    reserved_resources: Annotated[str, AfterValidator(_checked_by(parse_reserved))] = ""
    """Like gpu=1,pages_2048@0=64: what of further amounts is kept back. Empty: nothing."""

    guest_overhead_mib: Annotated[int, Field(ge=0, le=65536)] = 0
    """What a guest claims beside its own memory, for its QEMU: the same on all hosts. Nova reckons with none; small guests of
    ours were seen to take 60 to 130 MiB."""

    dedicated_cpus: Annotated[str, AfterValidator(_cpu_list)] = ""
    """Like 4-15: CPUs of this host for guests that are pinned, each one guest's alone. All others stay off these. Empty: no
    pinned guests here."""

    pci_devices: Annotated[str, AfterValidator(_checked_by(parse_pci_devices))] = ""
    """Like 8086:10fb,0000:3b:00.0: PCI devices of this host that guests may have. Empty: none."""

    pci_aliases: Annotated[str, AfterValidator(_checked_by(parse_pci_aliases))] = ""
    """Like gpu=10de:1db4: what flavors call PCI devices (pci_passthrough:alias=gpu:1), the same on all hosts."""

    heartbeat_s: Annotated[float, Field(gt=0)] = 5.0
    """A host says that it is alive so often; its node's own process does, so a busy host is never called dead."""

    host_down_s: Annotated[float, Field(gt=0)] = 20.0
    """A host not heard of for so long takes no new instances. Nothing is ever moved or deleted because of it."""

    sweep_s: Annotated[float, Field(gt=0)] = 15.0
    """An operation without progress for so long is sent on again; a lost message costs at most two of these."""

    track_s: Annotated[float, Field(gt=0)] = 60.0
    """How often a host's inventory is read. Nova's update_available_resource runs as often."""

    power_sync_s: Annotated[float, Field(gt=0)] = 60.0
    """How often the power states of a host's guests are looked at, for what was not heard."""

    power_policy: PowerPolicy = PowerPolicy.FOLLOW
    """What becomes of a guest that runs though it is recorded as stopped, or that has put itself to sleep: `follow`, its record
    follows the hypervisor; `stop`, it is stopped by an operation besides, as Nova does it."""

    monitor_s: Annotated[float, Field(ge=0)] = 60.0
    """How often a host measures itself and its guests. 0: never."""

    monitors: Annotated[str, Field(pattern=r"^([a-z0-9_.-]+(,[a-z0-9_.-]+)*)?$")] = "cpu,memory,disk,network"
    """What is measured, by the names of monitors, with commas between them: ours, and those that installed distributions have
    under the entry points `taskvisor.monitors`. Empty: nothing. Nova's default is nothing."""

    monitor_samples: Annotated[int, Field(ge=2, le=1440)] = 30
    """So many samples are kept of each host and instance."""

    host_check_s: Annotated[float, Field(gt=0)] = 10.0
    """How often it is looked which hosts have fallen silent or come back."""

    instance_build_timeout_s: Annotated[float, Field(ge=0)] = 6 * 3600.0
    """A build that has been under way for so long is cancelled and rolled back. 0: never, which is Nova's default; large images
    from slow servers may need more."""

    build_check_s: Annotated[float, Field(gt=0)] = 60.0
    """How often builds that take too long are looked for. Nova's period."""

    delete_retry_s: Annotated[float, Field(ge=0)] = 300.0
    """How often deletes that failed are asked for again, each at most 5 times. Nova's period and bound. 0: never."""

    reclaim_s: Annotated[float, Field(ge=0)] = 0.0
    """Instances that have been deleted softly for so long are deleted for good. 0: only when somebody asks. Nova's
    reclaim_instance_interval, but that a delete is soft only when it is asked to be."""

    reclaim_check_s: Annotated[float, Field(gt=0)] = 60.0
    """How often instances to be reclaimed are looked for. Nova's period."""

    image_cache_s: Annotated[float, Field(ge=0)] = 2400.0
    """How often a host's image cache is looked through for what may go by its age (`image_keep_s`). Nova's period. 0: only
    when the disk is full."""

    prewarm_images: Annotated[
        str, Field(pattern=r"^([^,\x00-\x20][^,\x00-\x1f]*(,[^,\x00-\x20][^,\x00-\x1f]*)*)?$")
    ] = ""
    """Registered images, by name, with commas between them, that each host has in its cache before a build asks for them."""

    prewarm_s: Annotated[float, Field(gt=0)] = 600.0
    """How often a host sees to that."""

    usage_audit_s: Annotated[float, Field(ge=0)] = 0.0
    """So often what each instance had is told in the stream of usage. 0: never, as Nova's instance_usage_audit."""

    networks_s: Annotated[float, Field(gt=0)] = 60.0
    """How often a host looks at the plugs of its guests and at what surrounds its networks. What changes is told at once: this
    is for what was not heard, and for what somebody has removed."""

    resume_guests: bool = False
    """Guests that ran when their host went down are started again when it comes back, by a hard reboot each, once a boot: Nova's
    resume_guests_state_on_host_boot. Off: they are `stopped`, for somebody to start."""

    resume_stagger_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """Of such guests as many as there are processes for steps are started at once, and then one after each so many seconds."""

    orphans_s: Annotated[float, Field(gt=0)] = 1800.0
    """How often a host looks for what it has that no record is of."""

    orphan_action: Literal["noop", "log", "stop", "reap"] = "log"
    """What is done with it once it is confirmed. `stop`: domains are switched off; `reap`: what is certain is taken away, and
    directories are set aside. Nova's running_deleted_instance_action; its default is reap, and then a record that was lost
    costs the guest."""

    orphan_confirm_s: Annotated[float, Field(ge=60)] = 3600.0
    """So long after it was first seen it must be seen again."""

    orphan_keep_s: Annotated[float, Field(ge=3600)] = 7 * 86400.0
    """What was set aside is removed after so long."""

    drain_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """Guests of one host that a drain stops, or starts again, at once: shutting down and booting load a host."""

    records_s: Annotated[float, Field(gt=0)] = 60.0
    """How often a host looks whether the copies of its records are as the records are, by which a lost store is rebuilt. What an
    operation changes is kept when it ends: this is for the rest, like a port's security groups."""

    operation_keep_s: Annotated[int, Field(ge=60)] = 7 * 86400
    """Ended operations are readable for so long."""

    result_keep_s: Annotated[int, Field(ge=60)] = 86400
    """A Celery result lives for so long after it was last written."""

    events_kept: Annotated[int, Field(ge=100)] = 10_000
    """Length of the stream of events (approximate)."""

    webhook_urls: Annotated[str, AfterValidator(_checked_by(parse_webhook_urls))] = ""
    """http(s) URLs, with blanks between them, that `taskvisor webhooks run` posts every event to (docs/events.md). Empty:
    none."""

    webhook_secret_file: Annotated[str, Field(pattern=r"^(/[^\x00-\x1f]*)?$")] = ""
    """Holds the keys that webhooks are signed with, a line each: whsec_ and base64. Needed where there are URLs; so that no key
    is in an environment, which many can read."""

    webhook_timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    """A URL that says nothing for so long has not taken the event; a whole try takes at most twice as long."""

    webhook_keep_s: Annotated[float, Field(ge=0)] = 6 * 3600.0
    """An event that a URL does not take is tried again until it is so old; then it is in the log, and the next one's turn."""

    webhook_log_kept: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """So many events that were given up are remembered, with the reasons."""

    max_reschedules: Annotated[int, Field(ge=0, le=20)] = 2
    """Further hosts tried after one says that the guest does not fit. Nova tries 3 hosts in all."""

    placement: Literal["spread", "pack"] = "spread"
    """`spread`: a guest goes where most memory is free; `pack`: where least is, so that hosts stay empty."""

    filters: Annotated[str, AfterValidator(_names)] = ""
    """The rules that hosts are judged by, in that order, with commas between them: up,enabled,capacity,… Empty: all of ours
    (docs/placement.md). Others' are entry points. The nodes that take requests decide by them: they should agree."""

    weights: Annotated[str, AfterValidator(_weights)] = ""
    """Like memory=1,cpu=0.5,io_workload=-1: what counts among the hosts that fit, in place of what `placement` gives it. Above 0:
    more is better; below: less is; 0: it counts nothing."""

    build_failures_limit: Annotated[int, Field(ge=0, le=10_000)] = 10
    """A host on which so many builds failed one after the other, by its own fault, is disabled; 0: never. Nova's
    consecutive_build_service_disable_threshold."""

    max_image_gib: Annotated[int, Field(ge=1)] = 1024
    """Largest image that is fetched, and largest file that a conversion may write."""

    max_image_disk_gib: Annotated[int, Field(ge=1, le=64 * 1024)] = 2048
    """Largest disk that an image may claim to be: a compressed image of a few MiB may unpack to any size."""

    image_roots: Annotated[str, AfterValidator(_absolute_directories)] = "/"
    """Directories, with colons between them, that images are read from by path. Who may enqueue chooses the path, so name
    the ones where images lie where callers are not trusted. Never read, whatever is set here: /dev, /etc, /proc, /run, /sys
    and the state directory, but for the snapshots in it. Links are not followed."""

    image_stores: Annotated[str, AfterValidator(_object_stores)] = "s3,gs,abfs"
    """Object stores that images are read from, by the schemes of their URLs, with commas between them. Each needs its fsspec
    library on the hosts: taskvisor[s3] brings that of s3. End points and keys are for that library to find."""

    image_keep_s: Annotated[int, Field(ge=3600)] = 86400
    """A cached image that no build asked for in so long, and that no disk stands on, goes: see `image_cache_s`. Nova's
    remove_unused_original_minimum_age_seconds."""

    snapshot_format: Literal["qcow2", "raw"] = "qcow2"
    """Of snapshots whose caller does not say. Nova's snapshot_image_format."""

    snapshot_compression: Literal["none", "zlib", "zstd"] = "zlib"
    """Of qcow2 snapshots whose caller does not say. `none` is the quickest: a live copy becomes the image as it is."""

    definition_dialect: Dialect = Dialect.OURS
    """`nova`: where it is the same to most guests, domains are defined as nova-compute 13 did it."""

    metadata_dialect: MetadataDialect = MetadataDialect.OURS
    """`nova`: domains bear Nova's metadata (1.1) beside ours, for tools that read those; `nova-1.0`: the older ones."""

    smbios_manufacturer: Annotated[SmbiosText, Field(min_length=1)] = "Taskvisor"
    """What guests read as who made them."""

    smbios_product: Annotated[SmbiosText, Field(min_length=1)] = "Taskvisor instance"
    """What guests read as what they are."""

    smbios_version: SmbiosText = ""
    """What guests read as its version. Empty: none."""

    smbios_serial: SmbiosText = ""
    """The serial number that guests read, the same for all guests of the host. Empty: each has its id, which is what cloud-init
    and inventories expect."""

    vnc_address: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """Where guests' screens listen. They have no password: whoever reaches the port has the screen."""

    novnc_dir: Path = Path("/usr/share/novnc")
    """Where `taskvisor vnc` finds noVNC's pages; this is where Debian's package has them."""

    remote_taskvisor: Annotated[str, Field(pattern=r"^[A-Za-z0-9/_.-]+$")] = "taskvisor"
    """How a shell on a host finds this program, for `taskvisor console` and `vnc` from elsewhere; perhaps a whole path."""

    vnc_keymap: Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,32}$")] = ""
    """Like en-us. Empty: the viewer's keys go to the guest as they are, which is right for today's viewers."""

    video_model: Literal["vga", "cirrus", "qxl", "virtio", "vmvga", "bochs", "ramfb", "none"] = "vga"
    """The card of guests whose image does not say one. Every guest shows something on vga without a driver."""

    kernel_roots: Annotated[str, AfterValidator(_directories_or_none)] = ""
    """Directories, with colons between them, below which guests may ask for kernels and ramdisks. Empty: nowhere; a caller
    could have any file of the host shown to a guest."""

    shared_cpus: Annotated[str, AfterValidator(_cpu_list)] = ""
    """Like 0-3,8: where what is not pinned runs, of guests of which some CPUs are. Empty: wherever the host lets it."""

    ceph_user: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    """Who guests' disks in Ceph are opened as, without `client.` in front. Empty: this host has no Ceph."""

    ceph_secret_uuid: Annotated[str, Field(pattern=r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$")] = ""
    """The libvirt secret that holds that user's key (virsh secret-define). Empty: the cluster asks for none."""

    ceph_monitors: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:,\[\]-]*$")] = ""
    """Like 10.0.0.1,10.0.0.2:6789,[fd00::3]. Empty: those that the configuration file names."""

    ceph_config_file: Annotated[str, Field(pattern=r"^/[^\x00-\x20]*$")] = "/etc/ceph/ceph.conf"
    """Where Ceph's own programs find the cluster, and its monitors where `ceph_monitors` names none."""

    disk_backend: BackendKind = BackendKind.QCOW2
    """What guests to come have their disks in: `qcow2` (overlays of the cached image), `raw` (copies, or reflinks of it), `lvm`
    or `rbd`. A guest keeps the one that it was built with."""

    raw_preallocation: Preallocation = Preallocation.NONE
    """Of raw files, when they are made: `none` (sparse), `falloc` (room is reserved) or `full` (zeros are written)."""

    lvm_group: Annotated[str, Field(pattern=r"^([A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126})?$")] = ""
    """The volume group of guests' disks, with `lvm`."""

    lvm_thin_pool: Annotated[str, Field(pattern=r"^([A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126})?$")] = ""
    """A thin pool in that group: disks take room as guests write. Empty: volumes of their own, whose every block is written
    when they are made, since another guest's data may be in it."""

    rbd_pool: Annotated[str, Field(pattern=r"^([A-Za-z0-9_.][A-Za-z0-9_.-]{0,126})?$")] = ""
    """The Ceph pool of guests' disks, with `rbd`."""

    config_drive: SeedKind = SeedKind.NOCLOUD
    """How guests' cloud-init is told who they are, where neither their build nor their image asks: `configdrive` is what
    Nova's force_config_drive gives, `configdrive-vfat` the same with its config_drive_format=vfat. The node that takes a
    request decides by it, and the instance keeps it."""

    vendor_data_file: Annotated[str, Field(pattern=r"^(/[^\x00-\x1f]*)?$")] = ""
    """A text for cloud-init of every guest of this host, like user data, which overrule it: Nova's vendor data. At most 65,535
    bytes of UTF-8. Read whenever a guest is started. Empty: none."""

    metadata_service: bool = True
    """Guests of networks that this host serves by DHCP are told who they are at http://169.254.169.254/ too, as by OpenStack and
    EC2. That address is then the host's own: one that is itself a cloud's guest no longer reaches its cloud's there, so it is
    to be off on those. A change is seen by each guest that starts."""

    volume_roots: Annotated[str, AfterValidator(_volume_roots)] = ""
    """Beginnings of the URLs of volumes that this host may attach, with commas between them: file:///srv/volumes,rbd://volumes,
    nfs://filer/export,iscsi://10.0.0.9:3260. Empty: none; who may enqueue chooses the volume, and could have any file, disk or
    other guest's image of this host."""

    ovsdb: Annotated[str, Field(pattern=r"^unix:/[^\x00-\x20]+$", max_length=110)] = "unix:/run/openvswitch/db.sock"
    """Where the database of this host's Open vSwitch listens. Asked only for networks of kind `ovs`."""

    detach_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 160
    """A guest that is asked to let go of a volume has so long, and is asked again and again. Nova's 8 times 20 s."""

    shutdown_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60
    """A stop waits so long for the guest to shut down before it is switched off. Nova's default."""

    soft_reboot_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 120
    """A soft reboot waits so long before it turns hard. Nova's default."""

    redis_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """No call to Redis takes longer; a hung server is an error, not a hang."""

    allow_volatile_redis: bool = False
    """Start on a Redis that evicts keys or keeps nothing on disk, though records may vanish: for tests and first looks."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: this, and what is worse."""

    log_format: Literal["console", "json"] = "console"
    """`json`: a line an event, for machines."""

    traces: Literal["off", "otlp"] = "off"
    """`otlp`: nodes tell OpenTelemetry's traces of requests and steps, with taskvisor[otel]; where to, say OpenTelemetry's own
    variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, …)."""

    metrics_address: str = "127.0.0.1"
    """Where the control node serves its metrics. They say what runs where: not for the open network."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: no metrics. Every control node tells the same of the whole fleet, so one or two that are scraped are enough; 9464 is
    the port that exporters without one of their own use."""

    metrics_of_instances: bool = False
    """Tell the latest measurements of each instance too: some ten series an instance."""

    flower_address: str = "127.0.0.1"
    """Where `taskvisor up` lets Flower listen. Flower is not for the open network without a password."""

    flower_ticks: bool = False
    """Whether Flower is told of ticks, too. They are many, and what somebody asked for is then hard to find among them."""

    flower_port: Annotated[int, Field(ge=0, le=65535)] = 5555
    """Where Flower listens. `taskvisor up` takes another one when it is taken; 0: any that is free."""

    @model_validator(mode="after")
    def _has_what_its_disks_need(self) -> Self:
        """The settings of guests' disks go together."""
        kind = self.disk_backend
        if kind is BackendKind.LVM and not self.lvm_group:
            raise ValueError("TASKVISOR_DISK_BACKEND=lvm needs TASKVISOR_LVM_GROUP, the volume group of guests' disks")
        if kind is BackendKind.RBD and not (self.rbd_pool and self.ceph_user):
            raise ValueError("TASKVISOR_DISK_BACKEND=rbd needs TASKVISOR_RBD_POOL and TASKVISOR_CEPH_USER")
        if self.lvm_thin_pool and not self.lvm_group:
            raise ValueError("TASKVISOR_LVM_THIN_POOL needs TASKVISOR_LVM_GROUP, the volume group that it is in")
        if self.webhook_urls and not self.webhook_secret_file:
            raise ValueError(
                "TASKVISOR_WEBHOOK_URLS needs TASKVISOR_WEBHOOK_SECRET_FILE, the keys that events are signed with"
            )
        if self.raw_preallocation is not Preallocation.NONE and kind is not BackendKind.RAW:
            raise ValueError("TASKVISOR_RAW_PREALLOCATION needs TASKVISOR_DISK_BACKEND=raw: other disks have none")
        return self


@lru_cache(maxsize=1)
def read_settings() -> Settings:
    """The settings of this process, read once. ValidationError names the variable, the value and the rule."""
    return Settings()


def environment_for(settings: Settings) -> dict[str, str]:
    """The environment of a child process that is to read these very settings, wherever they came from."""
    ours = {f"TASKVISOR_{name.upper()}": str(value) for name, value in settings.model_dump(mode="json").items()}
    return {**os.environ, **ours}
