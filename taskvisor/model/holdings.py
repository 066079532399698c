"""What a host has of records: all that is needed to write them anew when the store is lost. Knows no store.

Much is there twice. A domain's metadata are written when it is defined; the copy of the record beside the disks is written
after whatever changed it last, and may lag behind by a period. Which of them holds is not decided here.
"""

from dataclasses import dataclass

from taskvisor.model.ids import HostName, ImageId, InstanceId, NetworkId
from taskvisor.model.network import Surroundings
from taskvisor.model.observed import ConnectedVolume, DhcpFacts, DomainFacts, ImageFileFacts, LinkSeen
from taskvisor.model.records import Image, Instance, Resources


@dataclass(frozen=True, kw_only=True)
class InstanceCopy:
    """The copy of a record in an instance's directory. `instance` None: there is one that can't be read, for `problem`."""

    instance_id: InstanceId
    instance: Instance | None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageCopy:
    """The copy of the record of an image whose file lies on this host. `image` None: it can't be read, for `problem`."""

    image_id: ImageId
    image: Image | None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkCopy:
    """What surrounds a network, as this host was told at that time (seconds since the epoch). `around` None: it can't be read."""

    network_id: NetworkId
    told_at: float
    around: Surroundings | None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class GuestHeld:
    """All that a host has of one instance.

    `defined`: the record by the domain's metadata. `copy`: the record beside its disks. `macs` and `serials`: of the NICs and
    disks that the domain has, as it is defined. `problem`: why the metadata or the copy can't be read. `claimed`: what it takes
    of the host by its record, as the host counts; None: its record does not tell.
    """

    instance_id: InstanceId
    domain: DomainFacts | None = None
    defined: Instance | None = None
    copy: Instance | None = None
    macs: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    problem: str | None = None
    claimed: Resources | None = None


@dataclass(frozen=True, kw_only=True)
class HostHoldings:
    """What one host has, as one look at it found it. `foreign`: domains that bear no mark of ours, by name.

    What it has room for is not here: a host reports that itself. `lost`: copies that can't be read, a sentence each.
    """

    host: HostName
    looked_at: float
    guests: tuple[GuestHeld, ...]
    images: tuple[Image, ...]
    image_files: tuple[ImageFileFacts, ...]
    networks: tuple[NetworkCopy, ...]
    links: tuple[LinkSeen, ...]
    dhcp: tuple[DhcpFacts, ...]
    volumes: tuple[ConnectedVolume, ...]
    foreign: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
