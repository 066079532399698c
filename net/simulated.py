"""Links as small files, with the real fabric's meaning: for hosts without a hypervisor, and for the flows' own tests.

    links/<name>.json              a TAP or a bridge: its kind and its alias
    leases/<bridge>/<tap>.json     a port on that bridge: what DHCP would be told
    told/<tap>.json                what the metadata service would tell the port's guest
    surroundings/<bridge>.json     what this host was told of that network last
    remembered/<tap>.json          what the filters of a port would follow from
    kept/<network>.json            the same, as a real host keeps it for a store that was lost
    lost/<tap>.json                what somebody took of a plug that has no file here: its filters, the guest's end

The world is shared by every process of the host. Look-and-act happens under the network's lock; a record is whole or
absent, since it is written to the lock's own temporary file and renamed. No call but the `list_` ones looks at more than
the links it is about. Must never know why it is called.
"""

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from net.kept_surroundings import KeptSurroundings
from net.kinds import OWN_BRIDGE_KINDS
from net.locks import ensure_locked
from net.plan import OWNER_WORD, bridge_name_for, network_owner_for
from taskvisor.model.errors import CannotAsk, Contradiction
from taskvisor.model.holdings import NetworkCopy
from taskvisor.model.ids import NetworkId
from taskvisor.model.measured import TrafficCounters
from taskvisor.model.network import Surroundings
from taskvisor.model.observed import DhcpFacts, LinkFacts, PlugLack, PlugMemory, PlugPart
from taskvisor.model.plan import VifPlan


class Kind(StrEnum):
    TAP = "tap"
    BRIDGE = "bridge"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link as its file says; `alias` tells whose it is."""

    kind: Kind
    alias: str


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What the network's DHCP is told of a port."""

    mac: str
    address: str
    hostname: str


class SimulatedFabric:
    """The port Fabric, on files below `root`. Opening it makes the directories, and nothing else."""

    def __init__(self, root: Path) -> None:
        self._links = root / "links"
        self._leases = root / "leases"
        self._told = root / "told"
        self._locks = root / "locks"
        self._surroundings = root / "surroundings"
        self._lost = root / "lost"
        self._kept = KeptSurroundings(root / "kept")
        self._remembered = root / "remembered"
        parts = (self._links, self._leases, self._told, self._locks, self._surroundings, self._lost, self._remembered)
        for directory in parts:
            directory.mkdir(parents=True, exist_ok=True)

    def ensure_plugged(self, vif: VifPlan) -> None:
        """Bridge, TAP and DHCP entry are there; the bridge only of kinds whose bridge is ours.

        Contradiction when a link of either name is another's; both are left alone then. Busy when the network is locked
        for 20 s.
        """
        bridge = Link(kind=Kind.BRIDGE, alias=network_owner_for(vif.network_id))
        tap = Link(kind=Kind.TAP, alias=vif.owner)
        with self._locked(vif.network_id):
            wanted = [(vif.bridge, bridge)] if vif.kind in OWN_BRIDGE_KINDS else []
            missing = [(name, link) for name, link in (*wanted, (vif.tap, tap)) if self._lacks(name, link)]
            memory = PlugMemory(bridge=vif.bridge, mac=vif.mac, address=vif.address)
            self._put(self._remembered / f"{vif.tap}.json", memory, vif.network_id)
            for name, link in missing:
                self._put(self._file(name), link, vif.network_id)
            self._put_lease(vif)
            (self._lost / f"{vif.tap}.json").unlink(missing_ok=True)

    def ensure_unplugged(self, vif: VifPlan) -> None:
        """The TAP and the DHCP entry are gone, and with the last port of the network its bridge.

        Contradiction when the TAP's name is another's link, which is left alone; so is a bridge that is another's.
        """
        bridge = Link(kind=Kind.BRIDGE, alias=network_owner_for(vif.network_id))
        with self._locked(vif.network_id):
            if not self._lacks(vif.tap, Link(kind=Kind.TAP, alias=vif.owner)):
                self._file(vif.tap).unlink()
            (self._told / f"{vif.tap}.json").unlink(missing_ok=True)
            (self._lost / f"{vif.tap}.json").unlink(missing_ok=True)
            (self._remembered / f"{vif.tap}.json").unlink(missing_ok=True)
            leases = self._leases / vif.bridge
            (leases / f"{vif.tap}.json").unlink(missing_ok=True)
            if _is_gone(leases):
                self._kept.ensure_gone(vif.network_id)
                (self._surroundings / f"{vif.bridge}.json").unlink(missing_ok=True)
                if self._read(vif.bridge) == bridge:
                    self._file(vif.bridge).unlink()

    def ensure_told(self, vif: VifPlan, documents: Mapping[str, str]) -> None:
        """See `Fabric.ensure_told`."""
        path = self._told / f"{vif.tap}.json"
        with self._locked(vif.network_id):
            if not documents:
                path.unlink(missing_ok=True)
            elif vif.dhcp and self._read(vif.tap) == Link(kind=Kind.TAP, alias=vif.owner):
                self._put(path, dict(documents), vif.network_id)

    def ensure_surroundings(self, around: Surroundings) -> None:
        """They are kept as told; of no effect where the network has no port here. Busy when the network is locked for 20 s."""
        network_id = around.network.id
        bridge = bridge_name_for(network_id)
        with self._locked(network_id):
            if (self._leases / bridge).is_dir():
                self._put(self._surroundings / f"{bridge}.json", around, network_id)
                self._kept.ensure_kept(around)

    def list_missing(self, vifs: Sequence[VifPlan]) -> tuple[PlugLack, ...]:
        """What has no file, or was taken."""
        lacks = (PlugLack(port_id=vif.port_id, parts=tuple(self._parts_missing(vif))) for vif in vifs)
        return tuple(lack for lack in lacks if lack.parts)

    def read_traffic(self) -> TrafficCounters | None:
        """None: nothing leads out of a simulated host."""
        return None

    def find_plug(self, tap: str) -> PlugMemory | None:
        """See `Fabric.find_plug`."""
        try:
            return msgspec.json.decode((self._remembered / f"{tap}.json").read_bytes(), type=PlugMemory)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise CannotAsk(f"cannot read what is remembered of {tap}: {error}") from error

    def list_links(self) -> tuple[LinkFacts, ...]:
        """The TAPs that bear our alias, in the order of their names."""
        try:
            names = sorted(path.stem for path in self._links.iterdir())
        except OSError as error:
            raise CannotAsk(f"cannot list {self._links}: {error.strerror}") from error
        found = ((name, self._read(name)) for name in names)
        return tuple(
            LinkFacts(name=name, owner=link.alias)
            for name, link in found
            if link is not None and link.kind is Kind.TAP and link.alias.startswith(f"{OWNER_WORD}:")
        )

    def list_dhcp(self) -> tuple[DhcpFacts, ...]:
        """What DHCP would be told of each port, in the order of bridges and TAPs; one that goes meanwhile is passed over."""
        try:
            paths = sorted(path for bridge in self._leases.iterdir() for path in bridge.glob("*.json"))
            found = [(path.parent.name, _read_lease(path)) for path in paths]
        except (OSError, msgspec.DecodeError) as error:
            raise CannotAsk(f"cannot list {self._leases}: {error}") from error
        return tuple(
            DhcpFacts(bridge=bridge, mac=lease.mac, address=lease.address, hostname=lease.hostname)
            for bridge, lease in found
            if lease is not None
        )

    def list_kept_networks(self) -> tuple[NetworkCopy, ...]:
        """As on a real host."""
        return self._kept.list_all()

    def _parts_missing(self, vif: VifPlan) -> Iterator[PlugPart]:
        if self._read(vif.tap) != Link(kind=Kind.TAP, alias=vif.owner) or self._read(vif.bridge) is None:
            yield PlugPart.LINK
        if not (self._leases / vif.bridge / f"{vif.tap}.json").exists():
            yield PlugPart.DHCP
        lost = self._lost / f"{vif.tap}.json"
        if lost.exists():
            yield from msgspec.json.decode(lost.read_bytes(), type=tuple[PlugPart, ...])

    def _lacks(self, name: str, wanted: Link) -> bool:
        """True when there is no link of that name, False when it is the wanted one; else Contradiction."""
        link = self._read(name)
        if link not in (None, wanted):
            raise Contradiction(f"link {name} belongs to {link.alias or 'somebody'}, not to {wanted.alias}; left alone")
        return link is None

    def _put_lease(self, vif: VifPlan) -> None:
        """The port counts among those of its bridge, also where the network has no DHCP."""
        leases = self._leases / vif.bridge
        with contextlib.suppress(FileExistsError):
            leases.mkdir()
        lease = Lease(mac=vif.mac, address=vif.address, hostname=vif.hostname)
        self._put(leases / f"{vif.tap}.json", lease, vif.network_id)

    def _put(
        self, path: Path, record: Link | Lease | PlugMemory | Surroundings | dict[str, str], network_id: NetworkId
    ) -> None:
        """The record is there, whole. A killed writer's temporary file is used again, and never lies among the records."""
        temporary = self._locks / f"{network_id}.part"
        try:
            temporary.write_bytes(msgspec.json.encode(record))
            temporary.rename(path)
        except OSError as error:
            raise CannotAsk(f"cannot write {path}: {error.strerror}") from error

    def _file(self, name: str) -> Path:
        return self._links / f"{name}.json"

    def _read(self, name: str) -> Link | None:
        try:
            return msgspec.json.decode(self._file(name).read_bytes(), type=Link)
        except FileNotFoundError:
            if self._links.is_dir():
                return None
            raise CannotAsk(f"cannot look for link {name}: {self._links} is not there") from None
        except (OSError, msgspec.DecodeError) as error:
            raise CannotAsk(f"cannot read link {name}: {error}") from error

    @contextmanager
    def _locked(self, network_id: NetworkId) -> Iterator[None]:
        """Plug and unplug of one network take turns, so the last unplug can't take the bridge from under a first plug."""
        if not self._locks.is_dir():
            raise CannotAsk(f"cannot lock network {network_id}: {self._locks} is not there; was the host removed?")
        with ensure_locked(self._locks / network_id, f"network {network_id}"):
            yield


class SimulatedNeighbour:
    """Somebody else who makes and removes links on the simulated host `root`, and who can see what it was told; for tests."""

    def __init__(self, root: Path) -> None:
        self._links = root / "links"
        self._leases = root / "leases"
        self._surroundings = root / "surroundings"
        self._lost = root / "lost"

    def ensure_lost(self, tap: str, *parts: PlugPart) -> None:
        """Somebody has flushed the filters of that plug, or taken the link from under its guest."""
        (self._lost / f"{tap}.json").write_bytes(msgspec.json.encode(parts))

    def ensure_foreign_link(self, name: str) -> None:
        """A TAP of that name is there which bears no alias of ours."""
        (self._links / f"{name}.json").write_bytes(msgspec.json.encode(Link(kind=Kind.TAP, alias="")))

    def ensure_foreign_link_gone(self, name: str) -> None:
        """No link of that name is there, whosever it was."""
        (self._links / f"{name}.json").unlink(missing_ok=True)

    def ensure_dhcp_forgotten(self, tap: str) -> None:
        """DHCP is told nothing of that port any more."""
        for lease in self._leases.glob(f"*/{tap}.json"):
            lease.unlink()

    def list_surroundings(self) -> tuple[Surroundings, ...]:
        """What the host was told last of each network that it has ports of, in the order of their bridges."""
        paths = sorted(self._surroundings.iterdir())
        return tuple(msgspec.json.decode(path.read_bytes(), type=Surroundings) for path in paths)

    def list_names(self) -> tuple[str, ...]:
        """The names of all links, ours or not, bridges too."""
        return tuple(sorted(path.stem for path in self._links.iterdir()))

    def read_told(self, tap: str) -> Mapping[str, str]:
        """What the guest of the port with that TAP would be told; nothing when it is told nothing."""
        try:
            return msgspec.json.decode((self._links.parent / "told" / f"{tap}.json").read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}


def _read_lease(path: Path) -> Lease | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lease)
    except FileNotFoundError:
        return None


def _is_gone(directory: Path) -> bool:
    """Remove the directory if it is empty; True when it is not there then."""
    try:
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            return False
        raise CannotAsk(f"cannot remove {directory}: {error.strerror}") from error
    return True
