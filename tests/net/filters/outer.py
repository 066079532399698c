"""Addresses of the host's outer network, ports that have floating ones of these, and who is seen and reached by them."""

import json
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from net.fabric import LinuxFabric
from taskvisor.model.ids import FloatingId, HostName, SecurityGroupId
from taskvisor.model.network import FloatingAddress, Member, Network, SecurityGroup, SecurityRule, Surroundings
from taskvisor.model.plan import VifPlan
from tests.net.hosts import run_in
from tests.net.wired import Wired, wired

HOST, OUTSIDE, FLOATING, SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.77", "198.51.100.78"
GROUP = SecurityGroupId("11111111-0000-4000-8000-000000000001")
PORT = 80
ANSWER_LIMIT_S, SILENCE_S = 20.0, 0.5


def bound_around(
    on: Network, nics: Sequence[VifPlan], floating: Mapping[str, VifPlan], rules: tuple[SecurityRule, ...]
) -> Surroundings:
    """The network's surroundings: GROUP, which all ports are in, has the rules; the floating addresses are bound so."""
    return Surroundings(
        network=on,
        members=tuple(
            Member(
                port_id=nic.port_id,
                host=HostName("here"),
                mac=nic.mac,
                addresses=(nic.address,),
                security_groups=(GROUP,),
            )
            for nic in nics
        ),
        groups=(SecurityGroup(id=GROUP, name="all", rules=rules),),
        floating=tuple(
            FloatingAddress(id=FloatingId(address), address=address, port_id=nic.port_id)
            for address, nic in floating.items()
        ),
    )


@contextmanager
def plugged_guests(fabric: LinuxFabric, *nics: VifPlan) -> Iterator[tuple[Wired, ...]]:
    """A guest at each NIC, which is plugged for the block."""
    with ExitStack() as stack:
        for nic in nics:
            fabric.ensure_plugged(nic)
            stack.callback(fabric.ensure_unplugged, nic)
        yield stack.enter_context(wired(*nics))


def seen_as(client: str, address: str, server: str) -> str:
    """The address that the server sees when the client connects to `address`."""
    with run_in(server, lambda: socket.create_server(("", PORT))) as listener:
        listener.settimeout(ANSWER_LIMIT_S)
        with run_in(client, lambda: socket.create_connection((address, PORT), timeout=ANSWER_LIMIT_S)) as here:
            there, seen = listener.accept()
            with there:
                there.sendall(b"welcome")
                here.settimeout(ANSWER_LIMIT_S)
                assert here.recv(100) == b"welcome"
        return str(seen[0])


def is_reached(client: str, address: str, server: str) -> bool:
    """Whether the client's connection to `address` comes about while the server listens."""
    with run_in(server, lambda: socket.create_server(("", PORT))):
        try:
            run_in(client, lambda: socket.create_connection((address, PORT), timeout=SILENCE_S)).close()
        except OSError:
            return False
        return True


def outer_addresses() -> set[str]:
    """Those that the host has on its outer network."""
    said = subprocess.run(["ip", "-j", "-4", "addr", "show", "dev", "uplink"], capture_output=True, check=True).stdout
    return {held["local"] for held in json.loads(said)[0]["addr_info"]}
