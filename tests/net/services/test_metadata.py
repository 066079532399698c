"""What guests are told at 169.254.169.254, asked with curl from where they are, politely and otherwise."""

import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.fabric import LinuxFabric
from net.links.netlink import open_netlink
from net.services import metadata, metadata_program
from net.services.dnsmasq import Paths
from net.services.metadata import Place
from net.services.metadata_server import (
    BAD_REQUEST,
    CONNECTIONS_PER_GUEST_LIMIT,
    NOBODY,
    NOT_ALLOWED,
    NOT_FOUND,
    OK,
    REQUEST_LIMIT_BYTES,
    answer_for,
)
from net.services.process import ensure_none_with, list_pids_with
from net.services.site import METADATA_ADDRESS
from taskvisor.model.errors import Refused
from taskvisor.model.observed import PlugPart
from taskvisor.model.plan import VifPlan
from tests.net.hosts import guest_on, run_in
from tests.net.plans import network, vif
from tests.net.services.clients import eventually, run_inside

DOCUMENTS = {
    "openstack/latest/meta_data.json": '{"name": "web"}\n',
    "openstack/latest/user_data": "#!/bin/sh\nécho\n",
    "latest/meta-data/instance-id": "i-1",
    "latest/meta-data/placement/availability-zone": "nova",
    "latest/meta-data/public-keys/": "0=key-1",
    "latest/meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAA me",
}
LISTINGS = (
    "latest\nopenstack",
    "latest",
    "meta_data.json\nuser_data",
    "meta-data",
    "instance-id\nplacement/\npublic-keys/",
)
KNOWN = frozenset((*DOCUMENTS.values(), *LISTINGS, "availability-zone", "0/", "openssh-key"))
OTHERS = {"latest/meta-data/instance-id": "i-2"}
ANSWER_LIMIT_S = 60.0


def place_of(state_dir: Path, nic: VifPlan) -> Place:
    return Place(directory=state_dir / "net" / "networks" / nic.network_id)


def servers_of(place: Place) -> tuple[int, ...]:
    return list_pids_with(place.pid_argument)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n".encode()


def parts_missing(fabric: LinuxFabric, nic: VifPlan) -> tuple[PlugPart, ...]:
    return tuple(part for lack in fabric.list_missing((nic,)) for part in lack.parts)


@contextmanager
def told(fabric: LinuxFabric, *vifs: VifPlan) -> Iterator[None]:
    """The NICs are plugged, and their guests told DOCUMENTS (the first) or OTHERS."""
    for number, nic in enumerate(vifs):
        fabric.ensure_plugged(nic)
        fabric.ensure_told(nic, OTHERS if number else DOCUMENTS)
    try:
        yield
    finally:
        for nic in vifs:
            fabric.ensure_unplugged(nic)


@contextmanager
def guest_of(nic: VifPlan, state_dir: Path) -> Iterator[str]:
    with guest_on(nic.bridge, f"{state_dir.name[-6:]}{nic.address[-2:]}", nic.address, nic.gateway, nic.mac) as guest:
        yield guest


def curl(guest: str, path: str, *options: str) -> str:
    limit = ("-s", "-S", "-m", "50")
    return run_inside(guest, "curl", *limit, *options, f"http://{METADATA_ADDRESS}/{path}")


@pytest.mark.real
def test_a_guest_is_told_its_own_and_nobody_elses(fabric: LinuxFabric, state_dir: Path) -> None:
    first, second = vif(0), vif(1)
    with told(fabric, first, second), guest_of(first, state_dir) as one, guest_of(second, state_dir) as two:
        assert curl(one, "openstack/latest/meta_data.json") == '{"name": "web"}\n'
        assert curl(one, "openstack/latest/user_data") == "#!/bin/sh\nécho\n"
        assert curl(one, "latest/meta-data/instance-id") == "i-1"
        assert curl(two, "latest/meta-data/instance-id") == "i-2"
        assert curl(two, "openstack/latest/user_data", "-o", "/dev/null", "-w", "%{http_code}") == "404"


@pytest.mark.real
def test_networks_of_a_host_are_served_at_the_same_address_apart(fabric: LinuxFabric, state_dir: Path) -> None:
    first, second = vif(0, network(8)), vif(1, network(9))
    with told(fabric, first, second), guest_of(first, state_dir) as one, guest_of(second, state_dir) as two:
        assert curl(one, "latest/meta-data/instance-id") == "i-1"
        assert curl(two, "latest/meta-data/instance-id") == "i-2"


@pytest.mark.real
def test_a_neighbour_that_was_told_nothing_gets_nothing(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    with told(fabric, nic), guest_on(nic.bridge, state_dir.name[-8:], "10.9.0.99", nic.gateway) as stranger:
        assert curl(stranger, "", "-o", "/dev/null", "-w", "%{http_code}") == "404"


@pytest.mark.real
def test_what_is_told_again_is_what_is_read_and_the_server_stays(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    with told(fabric, nic), guest_of(nic, state_dir) as guest:
        before = servers_of(place_of(state_dir, nic))
        fabric.ensure_told(nic, OTHERS)
        LinuxFabric(state_dir).ensure_told(nic, OTHERS)
        assert curl(guest, "latest/meta-data/instance-id") == "i-2"
        assert servers_of(place_of(state_dir, nic)) == before
        assert len(before) == 1


@pytest.mark.real
def test_a_server_that_died_is_there_again_after_the_next_plug_or_telling(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    with told(fabric, nic), guest_of(nic, state_dir) as guest:
        for repair in (fabric.ensure_plugged, partial(fabric.ensure_told, documents=DOCUMENTS)):
            ensure_none_with(place_of(state_dir, nic).pid_argument)
            repair(nic)
            assert curl(guest, "latest/meta-data/instance-id") == "i-1"


@pytest.mark.real
def test_a_server_that_fails_once_it_listens_is_missed_says_why_and_is_started_again(
    fabric: LinuxFabric, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade that left half of the program: it can't be loaded, and whoever started it has gone on."""
    nic, place = vif(), place_of(state_dir, vif())
    half = tmp_path / "metadata_program.py"
    half.write_bytes(metadata.PROGRAM.read_bytes())
    with told(fabric, nic), guest_of(nic, state_dir) as guest:
        with monkeypatch.context() as upgraded:
            upgraded.setattr(metadata, "PROGRAM", half)
            ensure_none_with(place.pid_argument)
            fabric.ensure_plugged(nic)
        assert eventually(lambda: PlugPart.METADATA in parts_missing(fabric, nic))
        assert "metadata_server.py" in place.failed.read_text()
        fabric.ensure_plugged(nic)
        assert PlugPart.METADATA not in parts_missing(fabric, nic)
        assert not place.failed.exists()
        assert curl(guest, "latest/meta-data/instance-id") == "i-1"


def test_a_command_line_without_its_directory_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert metadata_program.main(["--device=lo", "--address=127.0.0.1"]) == 1
    assert "--directory=… is missing" in capsys.readouterr().err


@pytest.mark.real
def test_after_a_reboot_of_the_host_a_plug_brings_back_what_was_told(fabric: LinuxFabric, state_dir: Path) -> None:
    """Links, processes and firewall are gone then; files are not."""
    nic = vif()
    with told(fabric, nic):
        place = place_of(state_dir, nic)
        for argument in (place.pid_argument, Paths(directory=place.pid.parent).pid_argument):
            ensure_none_with(argument)
        for link in (nic.tap, nic.bridge):
            subprocess.check_call(["ip", "link", "delete", link])
        fabric.ensure_plugged(nic)
        with guest_of(nic, state_dir) as guest:
            assert curl(guest, "latest/meta-data/instance-id") == "i-1"


@pytest.mark.real
def test_another_program_text_is_another_server(
    fabric: LinuxFabric, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nic = vif()
    with told(fabric, nic), guest_of(nic, state_dir) as guest:
        before = servers_of(place_of(state_dir, nic))
        monkeypatch.setattr(metadata, "_code", lambda: "newer")
        fabric.ensure_told(nic, DOCUMENTS)
        assert not set(servers_of(place_of(state_dir, nic))) & set(before)
        assert curl(guest, "latest/meta-data/instance-id") == "i-1"


@pytest.mark.real
def test_telling_nothing_takes_server_address_and_files_away(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    with told(fabric, nic):
        for _ in range(2):
            fabric.ensure_told(nic, {})
            assert servers_of(place_of(state_dir, nic)) == ()
            assert not place_of(state_dir, nic).documents.exists()
            with open_netlink() as netlink:
                held = {str(address.interface) for address in netlink.list_addresses()}
            assert f"{METADATA_ADDRESS}/32" not in held


@pytest.mark.real
def test_a_guest_that_is_not_plugged_is_told_nothing(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_told(vif(), DOCUMENTS)
    assert not place_of(state_dir, vif()).documents.exists()


@pytest.mark.real
def test_nobody_but_the_server_may_read_and_it_is_confined(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    with told(fabric, nic):
        place = place_of(state_dir, nic)
        for path, mode in ((place.documents, 0o700), (place.file_of(nic), 0o600)):
            found = path.stat()
            assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY, mode)
        (pid,) = servers_of(place)
        proc = Path(f"/proc/{pid}")
        assert eventually(lambda: proc.stat().st_uid == NOBODY), "before that, nothing that a guest sent is read"
        assert (proc / "root").readlink() == place.documents
        assert "CapEff:\t0000000000000000" in (proc / "status").read_text()


@pytest.mark.real
def test_slow_many_and_garbled_guests_keep_nobody_from_an_answer(fabric: LinuxFabric, state_dir: Path) -> None:
    """A guest that drips its request, holds connections open and sends garbage, while its neighbour asks as always."""
    nic, neighbour = vif(0), vif(1)
    with ExitStack() as stack:
        stack.enter_context(told(fabric, nic, neighbour))
        bad = stack.enter_context(guest_of(nic, state_dir))
        good = stack.enter_context(guest_of(neighbour, state_dir))
        held = [stack.enter_context(run_in(bad, _connected)) for _ in range(5 * CONNECTIONS_PER_GUEST_LIMIT)]
        for connection in held:
            connection.setblocking(False)
        assert curl(good, "latest/meta-data/instance-id") == "i-2"
        assert eventually(lambda: sum(map(_drips_into, held)) == 0), "each is cut off in the end, however it drips"
        with run_in(bad, _connected) as garbled:
            garbled.sendall(b"\x16\x03\x01" + bytes(range(256)) * (REQUEST_LIMIT_BYTES // 128))
            assert BAD_REQUEST.encode() in _all_of(garbled)
        assert curl(bad, "latest/meta-data/instance-id") == "i-1"


@pytest.mark.real
def test_more_than_fits_is_refused(fabric: LinuxFabric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "DOCUMENTS_LIMIT_BYTES", 100)
    fabric.ensure_plugged(vif())
    with pytest.raises(Refused, match="at most 100 are served"):
        fabric.ensure_told(vif(), DOCUMENTS)
    fabric.ensure_unplugged(vif())


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (get("/latest/meta-data/instance-id"), (OK, "i-1")),
        (get("//latest//meta-data/instance-id/?x=1"), (OK, "i-1")),
        (get("/latest/meta%2Ddata/instance-id"), (OK, "i-1")),
        (get("/latest/meta-data/"), (OK, "instance-id\nplacement/\npublic-keys/")),
        (get("/latest/meta-data/public-keys/"), (OK, "0=key-1")),
        (get("/latest/meta-data/public-keys/0/openssh-key"), (OK, "ssh-ed25519 AAAA me")),
        (get("/openstack"), (OK, "latest")),
        (get("/openstack/latest/"), (OK, "meta_data.json\nuser_data")),
        (get("/"), (OK, "latest\nopenstack")),
        (get("/latest/user-data"), (NOT_FOUND, "there is no such thing here\n")),
        (get("/../../etc/passwd"), (NOT_FOUND, "there is no such thing here\n")),
        (
            get("/latest/api/token").replace(b"GET", b"PUT"),
            (NOT_ALLOWED, "what is here can be read, and nothing else\n"),
        ),
        (b"GET / HTTP/2\r\n\r\n", (BAD_REQUEST, "this is no HTTP request\n")),
        (b"GET http://169.254.169.254/ HTTP/1.1\r\n\r\n", (BAD_REQUEST, "this is no HTTP request\n")),
        (b"", (BAD_REQUEST, "this is no HTTP request\n")),
    ],
)
def test_a_request_has_its_answer(request_: bytes, answer: tuple[str, str]) -> None:
    assert answer_for(request_, DOCUMENTS) == answer


@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from(["openstack", "latest", "meta-data", "..", "%2e%2e", "", "?", "public-keys"])).map(
            lambda parts: get("/" + "/".join(parts))
        ),
    )
)
def test_whatever_is_asked_nothing_but_documents_and_their_names_is_said(request: bytes) -> None:
    status, text = answer_for(request, DOCUMENTS)
    assert (status == OK) == (text in KNOWN)


def test_a_guest_without_documents_finds_nothing() -> None:
    assert answer_for(get("/"), {})[0] == NOT_FOUND


def _connected() -> socket.socket:
    """A connection, made in the namespace of the thread that runs this."""
    return socket.create_connection((METADATA_ADDRESS, 80), timeout=ANSWER_LIMIT_S)


def _drips_into(connection: socket.socket) -> bool:
    """Whether the server still takes another byte of a request that never ends."""
    try:
        connection.send(b"G")
    except OSError:
        return False
    return not _is_closed(connection)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _all_of(connection: socket.socket) -> bytes:
    connection.settimeout(ANSWER_LIMIT_S)
    deadline, said = time.monotonic() + ANSWER_LIMIT_S, b""
    while time.monotonic() < deadline:
        try:
            chunk = connection.recv(4096)
        except ConnectionResetError:
            return said
        if not chunk:
            return said
        said += chunk
    return said
