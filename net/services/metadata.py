"""The metadata service of a network on this host: one small server, and a file for each port with what its guest is told.

The server is net/services/metadata_program.py, run like dnsmasq: known by its whole command line, adopted when that is the
wanted one, else replaced. It listens before all of it is loaded; one that fails at that is found missing at the next look, as one
that died is. It reads a guest's file when the guest asks, so a change needs no signal. Files belong to the
unprivileged user that the server becomes, and to nobody else: user data hold secrets. Callers hold the network's lock.
Must never know what a document means.

169.254.169.254 is an address of the network's link while a guest of it is told anything, under a label of its own, so
that dnsmasq, which goes by the link's name, does not bind to it: two networks of a host would be in each other's way.
Where a network has no one link (`routed`), its server listens at the gateway's address, which is on every TAP and the network's
own, and filters send there what is meant for 169.254.169.254 (net/filters/tap_services.py).
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Interface
from pathlib import Path

import structlog

from net.command import run_command
from net.links.link import Link
from net.links.netlink import Netlink
from net.services import metadata_program, metadata_server
from net.services.metadata_program import FAILED_SUFFIX
from net.services.metadata_server import DOCUMENTS_LIMIT_BYTES, NOBODY
from net.services.process import ensure_none_with, open_daemon
from net.services.site import METADATA_ADDRESS, TAPS_PORT, site_for
from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

Documents = Mapping[str, str]
"""Texts by their paths: `openstack/latest/meta_data.json`."""
PROGRAM = Path(metadata_program.__file__)
LOADED = Path(metadata_server.__file__)
INTERFACE = IPv4Interface(f"{METADATA_ADDRESS}/32")
LABEL = "metadata"
PORT = 80
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
CODE_CHARS = 16


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the service of a network has its files: in the network's directory on this host."""

    directory: Path

    @property
    def documents(self) -> Path:
        """The server's own directory, and all that it can see."""
        return self.directory / "metadata"

    @property
    def pid(self) -> Path:
        return self.directory / "metadata.pid"

    @property
    def failed(self) -> Path:
        """Why the last server that was started did not come to answer; not there when it did."""
        return Path(f"{self.pid}{FAILED_SUFFIX}")

    @property
    def pid_argument(self) -> str:
        """The argument by which a server is known to be this network's, with or without its pid file."""
        return f"--pid-file={self.pid}"

    def file_of(self, vif: VifPlan) -> Path:
        """What the port's guest is told."""
        return self.documents / f"{vif.address}.json"


@dataclass(frozen=True, kw_only=True)
class Post:
    """Where a server listens: on a link, which holds the address; `link` None: at the address, by whatever link it is reached."""

    link: Link | None
    address: str = METADATA_ADDRESS
    port: int = PORT


def post_for(vif: VifPlan, link: Link | None) -> Post:
    """Of the NIC's network; `link` is the one that its services stand on, None where they stand on all of its TAPs."""
    return Post(link=link) if link is not None else Post(link=None, address=vif.gateway, port=TAPS_PORT)


def ensure_told(netlink: Netlink, vif: VifPlan, documents: Documents, *, post: Post, place: Place) -> None:
    """The port's guest is answered with these documents, at METADATA_ADDRESS.

    Refused when they are more than DOCUMENTS_LIMIT_BYTES; DoesNotFit when this process may not give files away (it is not root);
    Retryable when the server does not start.
    """
    _ensure_file(place, vif, documents)
    ensure_served(netlink, post=post, place=place)


def ensure_served(netlink: Netlink, *, post: Post, place: Place) -> None:
    """What the network's guests were told is served at `post`, also after the server died or the link was made anew.

    Of no effect where none was told anything. Retryable when the server does not start.
    """
    if not _any_told(place):
        return
    if post.link is not None and INTERFACE not in netlink.list_addresses_of(post.link):
        netlink.ensure_labelled_address(post.link, INTERFACE, label=LABEL)
    argv = argv_for(post, place)
    with open_daemon(place.pid, place.pid_argument) as daemon:
        if daemon is not None and daemon.argv == argv:
            return
    ensure_none_with(place.pid_argument)
    _tell_of_failure(place)
    started = run_command(argv)
    if not started.ok:
        raise Retryable(f"the metadata server of {place.directory.name} does not start: {started}")
    log.info("metadata_started", network_id=place.directory.name)


def is_served(vif: VifPlan, *, place: Place) -> bool:
    """A server runs, if the port's guest was told anything. Touches nothing. CannotAsk when it can't be told."""
    try:
        if not place.file_of(vif).exists():
            return True
        with open_daemon(place.pid, place.pid_argument) as daemon:
            return daemon is not None
    except OSError as error:
        raise CannotAsk(f"can't tell whether the metadata service runs: {error}") from error


def ensure_untold(netlink: Netlink, vif: VifPlan, *, place: Place) -> None:
    """The port's guest is told nothing. With the last guest of the network that was, the server and its address go too."""
    if not place.documents.exists():
        return
    place.file_of(vif).unlink(missing_ok=True)
    if _any_told(place):
        return
    interface = site_for(vif).interface
    link = None if interface is None else netlink.read_link(interface)
    if link is not None and INTERFACE in netlink.list_addresses_of(link):
        netlink.ensure_address_absent(link, INTERFACE)
    ensure_absent(place)


def ensure_absent(place: Place) -> None:
    """No metadata server of the network runs, and its files are gone."""
    if not place.documents.exists() and not place.pid.exists():
        return
    for pid in ensure_none_with(place.pid_argument):
        log.info("metadata_stopped", pid=pid)
    if place.documents.exists():
        for file in place.documents.iterdir():
            file.unlink(missing_ok=True)
        place.documents.rmdir()
    place.pid.unlink(missing_ok=True)
    place.failed.unlink(missing_ok=True)


def argv_for(post: Post, place: Place) -> tuple[str, ...]:
    """The server's command line: another when the link was made anew, or when the program has changed."""
    device = () if post.link is None else (f"--device={post.link.name}", f"--link={post.link.index}")
    return (
        sys.executable,
        "-I",  # nothing of the environment or of the user's own packages
        "-S",
        str(PROGRAM),
        *device,
        f"--address={post.address}",
        f"--port={post.port}",
        f"--directory={place.documents}",
        place.pid_argument,
        f"--code={_code()}",
    )


@lru_cache(maxsize=1)
def _code() -> str:
    return hashlib.sha256(PROGRAM.read_bytes() + LOADED.read_bytes()).hexdigest()[:CODE_CHARS]


def _tell_of_failure(place: Place) -> None:
    """It had nobody to tell: who started it had gone on."""
    if place.failed.exists():
        log.warning("metadata_had_failed", network_id=place.directory.name, reason=place.failed.read_text().strip())
        place.failed.unlink()


def _any_told(place: Place) -> bool:
    return place.documents.exists() and any(place.documents.glob("*.json"))


def _ensure_file(place: Place, vif: VifPlan, documents: Documents) -> None:
    content = json.dumps(dict(documents), sort_keys=True).encode()
    if len(content) > DOCUMENTS_LIMIT_BYTES:
        raise Refused(
            f"what the guest of port {vif.port_id} is to be told takes {len(content)} bytes; at most {DOCUMENTS_LIMIT_BYTES} are "
            "served: give less metadata, user data or vendor data"
        )
    place.documents.parent.mkdir(exist_ok=True)
    place.documents.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    _give_to_server(place.documents, DIRECTORY_MODE)
    scratch = place.file_of(vif).with_suffix(".new")
    scratch.touch(mode=FILE_MODE)
    _give_to_server(scratch, FILE_MODE)
    scratch.write_bytes(content)
    os.replace(scratch, place.file_of(vif))


def _give_to_server(path: Path, mode: int) -> None:
    path.chmod(mode)
    try:
        os.chown(path, NOBODY, NOBODY)
    except PermissionError as error:
        raise DoesNotFit(
            f"{path} can't be given to the metadata server's user: {error}; run the worker as root, or set "
            "TASKVISOR_METADATA_SERVICE=false on this host"
        ) from error
