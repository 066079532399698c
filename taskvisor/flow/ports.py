"""All that a step or the runner may use of the world, as Protocols. Adapters live in virt/, net/, taskvisor/state/, workers/.

Invariant: every `ensure_` converges: twice is once, and after an interruption anywhere it may be called again. Every
look-up that cannot ask raises `CannotAsk`; only a look-up that *did* ask may say that something is not there.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from taskvisor.model.change import Change, Loaded
from taskvisor.model.holdings import ImageCopy, InstanceCopy, NetworkCopy
from taskvisor.model.ids import ImageId, InstanceId, NetworkId, OperationId
from taskvisor.model.measured import EvictedImages, HostUsage, TrafficCounters
from taskvisor.model.network import NO_LINKS, HostLinks, Network, Surroundings
from taskvisor.model.observed import (
    ConnectedVolume,
    DefinitionFacts,
    DhcpFacts,
    DiskFileFacts,
    DomainFacts,
    DomainUse,
    HypervisorFacts,
    ImageFileFacts,
    LinkFacts,
    PlugLack,
    PlugMemory,
)
from taskvisor.model.operation import Operation
from taskvisor.model.operator import OperatorChoices
from taskvisor.model.orphan import StoreMemory
from taskvisor.model.plan import (
    AttachedDisk,
    AttachedNic,
    CachedImage,
    ConfigDrive,
    DiskLayout,
    DiskPlan,
    Seed,
    VifPlan,
    VolumePlan,
)
from taskvisor.model.records import Image, ImageSource, Instance
from taskvisor.model.snapshot import DEFAULT_ENCODING, LiveCopy, Quiesce, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from taskvisor.model.volume import VolumeAttachment

Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None when unknown), as often as the work likes. It raises when the work is to
stop: adapters let that pass, and leave what the next call can go on with."""


class Hypervisor(Protocol):
    """The domains of this host. Domains are found by instance id (= libvirt UUID), never by name."""

    def read_facts(self) -> HypervisorFacts:
        """What the hypervisor says of its host."""
        ...

    def read_domain(self, instance_id: InstanceId) -> DomainFacts | None:
        """The domain as it is now; None when libvirt says that there is none."""
        ...

    def list_domains(self) -> tuple[DomainFacts, ...]:
        """Every domain on the host, ours or not."""
        ...

    def list_uses(self) -> tuple[DomainUse, ...]:
        """What every domain on the host, ours or not, has of it, as the hypervisor says."""

    def read_usage(self) -> HostUsage:
        """What host and guests have used, as counters. One call for all domains, which no guest that hangs holds up."""
        ...

    def list_definitions(self) -> tuple[DefinitionFacts, ...]:
        """The XML of every domain on the host, ours or not, as it is defined and as it runs. Without passwords."""
        ...

    def ensure_defined(self, instance_id: InstanceId, xml: str) -> None:
        """The domain is defined with this XML (for a running one: from its next start).

        Contradiction when a domain of that name or UUID does not bear our metadata; Refused when libvirt rejects the XML.
        """
        ...

    def ensure_record_copied(self, instance_id: InstanceId, copy: str) -> None:
        """The domain carries this copy of its instance's record (virt/record_copy.py), as it is defined and as it runs.

        Nothing else of it changes, and its guest notices nothing. A domain that is not there carries none. Contradiction when it
        is not ours; Refused when the copy is not that instance's.
        """
        ...

    def ensure_running(self, instance_id: InstanceId) -> DomainFacts:
        """The domain runs: started when it was off, resumed when it was paused. Returns what libvirt then says."""
        ...

    def ensure_off(self, instance_id: InstanceId) -> None:
        """The domain does not run (pulled like a plug); a domain that is not there is off."""
        ...

    def ensure_undefined(self, instance_id: InstanceId) -> None:
        """No domain of that id exists, running or not. Contradiction when it is not ours."""
        ...

    def request_shutdown(self, instance_id: InstanceId) -> None:
        """Ask the guest to shut down (ACPI power button). Says nothing of whether it will; asking again is harmless."""
        ...

    def ensure_disk_attached(self, instance_id: InstanceId, disk: AttachedDisk) -> None:
        """The domain has the disk: in its definition, and in the guest if it runs.

        Refused when the domain is not there, another disk has its device name, or it cannot be had in this state;
        Contradiction when the domain is not ours.
        """
        ...

    def ensure_disk_detached(self, instance_id: InstanceId, device: str, serial: str) -> None:
        """The domain has no disk of that name and serial. Out of the definition at once; a running guest is asked.

        Busy while the guest has not let go of it: ask again. A disk of another serial is left alone; a domain that is not
        there has none. Contradiction when the domain is not ours.
        """
        ...

    def ensure_nic_attached(self, instance_id: InstanceId, nic: AttachedNic) -> None:
        """The domain has the NIC: in its definition, and in the guest if it runs. Its link must be there.

        Refused when the domain is not there, or it cannot be had in this state; Contradiction when the domain is not ours.
        """
        ...

    def ensure_nic_detached(self, instance_id: InstanceId, mac: str) -> None:
        """The domain has no NIC with that MAC. Out of the definition at once; a running guest is asked.

        Busy while the guest has not let go of it: ask again. A domain that is not there has none. Contradiction when the
        domain is not ours.
        """
        ...

    def copy_disk(
        self,
        instance_id: InstanceId,
        device: str,
        target_path: str,
        progress: Progress,
        *,
        quiesce: Quiesce = Quiesce.NEVER,
    ) -> LiveCopy:
        """Copy the disk `device` of a *running* domain, whole chain flattened, to a qcow2 file, without stopping the guest.

        The copy is the disk at one point in time: with its file systems frozen by the guest's agent for that moment, or
        as after a power cut. A job, and a frozen guest, left by a dead process are put right first. Refused when
        quiescing is required and the agent does not do it.
        """
        ...

    def ensure_copy_ended(self, instance_id: InstanceId, device: str) -> None:
        """No copy of that disk goes on, and no file system of the guest is frozen for one.

        Both belong to hypervisor and guest, and outlive the process that began them.
        """
        ...

    def ensure_suspended_to_disk(self, instance_id: InstanceId) -> bool:
        """Nothing of the domain runs: of one that ran, the memory is saved, and it is noted that this was our doing.

        Returns whether there is memory that we saved. Refused when somebody else's lies in its place.
        """
        ...

    def ensure_resumed(self, instance_id: InstanceId) -> None:
        """A domain whose memory we saved is as it was before: it runs, or is paused, and nothing is noted of it any more.

        Any other is left as it is, also one whose memory somebody else saved.
        """
        ...


class Disks(Protocol):
    """The directories and images of guests on this host."""

    def ensure_directory(self, layout: DiskLayout, instance_id: InstanceId) -> None:
        """The instance directory exists, with a sidecar file naming its owner, and an empty console log.

        Contradiction when a directory of that name belongs to something else.
        """
        ...

    def ensure_root(self, disk: DiskPlan, base: CachedImage, progress: Progress = ...) -> None:
        """`disk` is made from `base`, as its `storage` and `format` say, `disk.size_bytes` large (0: as large as base).

        Refused when base is larger than the size asked. A disk that a guest has written to is never made anew.
        """
        ...

    def ensure_seed(self, disk: DiskPlan, seed: Seed | ConfigDrive) -> None:
        """`disk.path` holds the seed's files: NoCloud's on a volume cidata, a config drive's on a volume config-2.

        A CD-ROM has ISO 9660, a disk FAT. A guest that has an older one open goes on with that. Refused when the files are
        too many bytes.
        """
        ...

    def ensure_data_disk(self, disk: DiskPlan) -> None:
        """`disk` is raw and of `disk.size_bytes`, and held `disk.content` when it was made. Whole, or not there.

        One that is there is the guest's, whatever it holds by now: it is neither made anew nor resized. Contradiction for
        what bears its name and is no disk of that size; DoesNotFit where this host can't make it.
        """
        ...

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """Nothing of the instance is left on disk; a directory whose sidecar names another owner is a Contradiction."""
        ...

    def flatten(
        self, source_path: str, target_path: str, progress: Progress, *, source_format: ImageFormat = ImageFormat.QCOW2
    ) -> None:
        """Write the disk `source_path` (no guest has it open), its chain flattened, to the qcow2 `target_path`."""
        ...

    def snapshot_path(self, image_id: ImageId) -> str:
        """Where a snapshot is copied to before it is an image."""
        ...

    def publish(
        self, image_id: ImageId, progress: Progress, encoding: SnapshotEncoding = DEFAULT_ENCODING
    ) -> CachedImage:
        """Convert, inspect and name the snapshot at `snapshot_path`; again, it returns the image published before."""
        ...

    def ensure_unpublished(self, image_id: ImageId) -> None:
        """Neither the copy nor the published image of that id is left."""
        ...

    def ensure_kept_beside(self, instance_id: InstanceId, file_name: str, text: str) -> None:
        """A file of that name and content lies in the instance's directory. Refused when there is no such directory."""
        ...

    def ensure_set_aside(self, instance_id: InstanceId, name: str) -> None:
        """The instance has no directory here, and nothing of it is lost: it lies whole below `quarantine`, under that name.

        A directory whose sidecar names another owner is a Contradiction. Disks in a volume group or Ceph pool stay.
        """
        ...

    def list_set_aside(self) -> tuple[str, ...]:
        """The names under which directories lie there."""
        ...

    def ensure_set_aside_removed(self, name: str) -> None:
        """Nothing lies there under that name."""
        ...

    def read_disk_file(self, path: str) -> DiskFileFacts | None:
        """What the header of a guest's disk says, a file below the instances' directory; None when no file is there."""
        ...

    def list_directories(self) -> tuple[InstanceId, ...]:
        """The instances that have a directory of ours here."""
        ...

    def list_pool_disks(self) -> tuple[InstanceId, ...]:
        """The instances that have disks in the host's volume group or Ceph pool. A pool may be shared: of any host's."""
        ...

    def list_images(self) -> tuple[ImageFileFacts, ...]:
        """The images of which anything lies here: published, or on their way to be."""
        ...

    def read_free_gib(self) -> tuple[int, int]:
        """Total and free GiB of where the disks of guests to come are made."""
        ...

    def read_growth_gib(self) -> int:
        """What the files of guests' disks may still grow by, in GiB: disks are made larger than the room that they take."""
        ...

    def ensure_instance_kept(self, instance: Instance) -> None:
        """A copy of the record lies in the instance's directory, and goes with it; without keys and user data. Of no effect
        where there is no directory of that name.
        """
        ...

    def ensure_image_kept(self, image: Image) -> None:
        """A copy of the record lies beside the published image, and goes with it. Of no effect where none is published."""
        ...

    def list_kept_instances(self) -> tuple[InstanceCopy, ...]:
        """The copies of instances' records that lie here. One that can't be read is listed, with the reason."""
        ...

    def list_kept_images(self) -> tuple[ImageCopy, ...]:
        """The copies of images' records that lie here, likewise."""
        ...


class Volumes(Protocol):
    """What connects this host to storage that lives on without its guests.

    What is connected is known by owner: who uses a volume here is written beside it, and outlives every process.
    """

    def plan_for(self, volume: VolumeAttachment) -> VolumePlan:
        """What QEMU opens once the volume is connected here. Nothing is asked or touched."""
        ...

    def ensure_connected(self, volume: VolumeAttachment, instance_id: InstanceId) -> None:
        """The volume is there for the instance, of the format declared, as `plan_for` says.

        Refused where this host is not allowed to go, for what is not there or is something else than declared, and for what
        another instance uses here under another name; Retryable for storage that does not answer.
        """
        ...

    def ensure_disconnected(self, source: str, instance_id: InstanceId) -> None:
        """The instance uses that volume here no more; the last user's going takes the connection along.

        What the host was never connected to is disconnected. Nothing may have it open any more.
        """
        ...

    def list_connected(self) -> tuple[ConnectedVolume, ...]:
        """What is connected here, or about to be, and for whom."""
        ...


class ImageCache(Protocol):
    """Images fetched to this host, each once."""

    def ensure_cached(self, source: ImageSource, progress: Progress) -> CachedImage:
        """The image is in the cache, complete and inspected.

        Refused for what is not an image, has a backing file or an external data file, differs from the declared
        format or checksum, or is not there (404, no such file); Retryable for a broken transfer, which is resumed.
        """
        ...

    def list_cached(self) -> tuple[str, ...]:
        """The SHA-256 of each image that is here, sorted: a guest of one of these waits for no transfer."""

    def ensure_old_evicted(self) -> EvictedImages:
        """What nobody asked for in the time that the operator set, and no disk stands on, is gone. CannotAsk, and nothing is
        gone, when the disks can't be asked.
        """
        ...


class StoreNotes(Protocol):
    """What this host remembers of its store, in a file of its own: it outlives every process, and the store."""

    def read(self) -> StoreMemory | None:
        """None when nothing is remembered, or nothing that can be read. CannotAsk when the file can't be read."""
        ...

    def write(self, memory: StoreMemory) -> None:
        """It is remembered, whole or not at all. CannotAsk when it can't be."""
        ...


class Fabric(Protocol):
    """Links, addresses and filters of this host."""

    def read_traffic(self) -> TrafficCounters | None:
        """What has gone over the interfaces that lead out of this host, together; None when it has none."""
        ...

    def ensure_plugged(self, vif: VifPlan) -> None:
        """Bridge, TAP, NAT and DHCP entry are there, and the TAP is on the bridge and up."""
        ...

    def ensure_unplugged(self, vif: VifPlan) -> None:
        """The TAP and the DHCP entry are gone; the last port's removal takes what we made for the network with it."""
        ...

    def ensure_told(self, vif: VifPlan, documents: Mapping[str, str]) -> None:
        """The port's guest, and no other, is answered at http://169.254.169.254/ with these texts, by their paths; without any
        it is told nothing there. Of no effect where the port is not plugged, or DHCP of its network is not ours. It goes with
        the port. Refused when they are too many bytes.
        """
        ...

    def ensure_surroundings(self, around: Surroundings) -> None:
        """What this host must know of the network beyond its own ports is as told: tunnels and their entries, the rules and
        members of security groups, floating addresses. Of no effect where the network has no port on this host. A port that
        is plugged has, until this is called, no group's rules: it sends, and hears answers.
        """
        ...

    def list_missing(self, vifs: Sequence[VifPlan]) -> tuple[PlugLack, ...]:
        """Of these NICs of guests that run, those whose plug is not whole, and what each lacks. Touches nothing.

        `ensure_plugged` brings it back, but for the guest's end of the link: the guest must get the NIC anew. CannotAsk when any
        part of it can't be told.
        """
        ...

    def find_plug(self, tap: str) -> PlugMemory | None:
        """What this host, under this state directory, remembers of the port with that TAP; None: nothing, so it was plugged by
        somebody else, or without filters, of which nothing is kept. CannotAsk when that can't be read.
        """
        ...

    def list_links(self) -> tuple[LinkFacts, ...]:
        """TAPs on this host that bear our alias."""
        ...

    def list_dhcp(self) -> tuple[DhcpFacts, ...]:
        """What this host's DHCP is told of ports of ours, whether or not it runs now."""
        ...

    def list_kept_networks(self) -> tuple[NetworkCopy, ...]:
        """What this host was told last of the surroundings of each network that it has ports of. One that can't be read is
        listed, with the reason.
        """
        ...


class VendorData(Protocol):
    """What this host's operator tells the cloud-init of every guest."""

    def read(self) -> str | None:
        """The text, as it is now; None when the operator has none. CannotAsk when what was named can't be read."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def sleep(self, seconds: float) -> None: ...


class Networks(Protocol):
    def read_network(self, network_id: NetworkId) -> Network:
        """The record; Refused when there is none of that id."""
        ...

    def read_surroundings(self, network_id: NetworkId) -> Surroundings:
        """What a host must know of the network besides its own ports, as it is now; Refused when there is no such network."""
        ...


class Journal(Protocol):
    """The store, as the runner sees it. Each call is one atomic look or one atomic write."""

    def load(self, operation_id: OperationId) -> Loaded | None:
        """The operation, and its instance's record when there is one; None when no such operation is known."""
        ...

    def commit(self, change: Change) -> None:
        """Write the change whole, or nothing.

        StoreConflict when the operation's revision has moved since `change.before`; Fenced when the lease of the
        instance is not this operation's, or bears another token than the one the change was made under.
        """
        ...

    def note_progress(self, operation: Operation, step: str, done_bytes: int, total_bytes: int | None) -> bool:
        """Tell watchers how far a long step has come; it loses nothing when it is lost.

        True when somebody has asked the operation to stop since `operation` was written.
        """
        ...


class Exclusion(Protocol):
    """One runner per instance on this host, by a lock that the kernel takes back from a dead process."""

    def hold(self, instance_id: InstanceId) -> AbstractContextManager[bool]:
        """Enter with True: this process alone runs steps of the instance on this host until it leaves. False: another does.

        Never blocks. A lock that is free proves that whoever the journal names as runner is dead or has let go.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class StepLimits:
    """What an operator chose that steps need to know, and where guests lie on this host."""

    instances_dir: str
    shutdown_timeout_s: int
    soft_reboot_timeout_s: int
    snapshot_encoding: SnapshotEncoding = DEFAULT_ENCODING
    """Of images whose caller does not say."""
    detach_timeout_s: int = 160
    metadata_service: bool = True
    """Whether this host tells its guests who they are at http://169.254.169.254/."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What one process opened, after fork, for the steps it runs."""

    hypervisor: Hypervisor
    disks: Disks
    images: ImageCache
    fabric: Fabric
    vendor_data: VendorData
    networks: Networks
    clock: Clock
    limits: StepLimits
    choices: OperatorChoices
    volumes: Volumes
    host_links: HostLinks = NO_LINKS
    """What this host is connected to, by its operator's word."""


class GuestOnHost(Protocol):
    """A guest and the ports of the host that it is on: all that its plans are made of. A StepContext is one."""

    @property
    def instance(self) -> Instance: ...

    @property
    def ports(self) -> Ports: ...
