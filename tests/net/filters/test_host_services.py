"""What of the host its guests reach, tried from a guest with an IP stack."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from net.fabric import LinuxFabric
from tests.net.hosts import run_in
from tests.net.plans import vif
from tests.net.wired import Wired, wired

pytestmark = pytest.mark.real

METADATA = "169.254.169.254"
ANSWER_LIMIT_S = 20.0


@pytest.fixture
def guest(fabric: LinuxFabric) -> Iterator[Wired]:
    fabric.ensure_plugged(vif())
    subprocess.run(["ip", "addr", "add", f"{METADATA}/32", "dev", vif().bridge], check=True)
    with wired(vif()) as (guest,):
        yield guest
    fabric.ensure_unplugged(vif())


@pytest.mark.parametrize(("address", "port"), [("10.9.0.1", 22), ("10.9.0.1", 80), ("10.9.0.1", 6379), (METADATA, 22)])
def test_services_of_the_host_turn_a_guest_away(guest: Wired, address: str, port: int) -> None:
    with closing(socket.create_server(("", port))), pytest.raises(OSError, match="No route to host"):
        _connect(guest, address, port)


@pytest.mark.parametrize(("address", "port"), [("10.9.0.1", 53), (METADATA, 80)])
def test_names_and_metadata_are_answered(guest: Wired, address: str, port: int) -> None:
    with closing(socket.create_server((METADATA if port == 80 else "127.0.0.1", port))):
        _connect(guest, address, port)  # port 53 of the gateway is dnsmasq's


def test_metadata_is_answered_by_redirection_too(guest: Wired) -> None:
    chain = "add table ip t; add chain ip t p { type nat hook prerouting priority -100; }"
    redirection = f"add rule ip t p ip daddr {METADATA} tcp dport 80 redirect to :8775"
    subprocess.run(["nft", f"{chain}; {redirection}"], check=True)
    with closing(socket.create_server(("", 8775))):
        _connect(guest, METADATA, 80)
        with pytest.raises(OSError, match="No route to host"):
            _connect(guest, METADATA, 8775)


def test_the_gateway_answers_an_echo(guest: Wired) -> None:
    said = subprocess.run(
        ["ip", "netns", "exec", guest.namespace, "ping", "-c1", "-W20", "10.9.0.1"], capture_output=True, check=False
    )
    assert b"1 received" in said.stdout


def _connect(guest: Wired, address: str, port: int) -> None:
    run_in(guest.namespace, lambda: socket.create_connection((address, port), timeout=ANSWER_LIMIT_S)).close()
