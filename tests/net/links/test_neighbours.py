"""Many entries at once, on a real kernel."""

import errno
import struct

import pytest
from pyroute2 import IPRoute

from net.links import neighbours as door
from net.links.neighbours import ANY_MAC, Neighbour, Table, open_neighbours, parse_codes
from taskvisor.model.errors import CannotAsk, DoesNotFit, Retryable

MANY = 1000
LOOKS = 10


@pytest.fixture
def links(host_namespace: str) -> tuple[int, int]:
    """A tunnel on a bridge: their indices."""
    with IPRoute() as ipr:
        ipr.link("add", ifname="br0", kind="bridge")
        bridge = ipr.link_lookup(ifname="br0")[0]
        ipr.link(
            "add", ifname="t0", kind="vxlan", vxlan_id=7, vxlan_port=4789, vxlan_local="192.0.2.1", vxlan_learning=0
        )
        tunnel = ipr.link_lookup(ifname="t0")[0]
        ipr.link("set", index=tunnel, master=bridge)
    return tunnel, bridge


def entries(tunnel: int, bridge: int, end: str, count: int = MANY) -> frozenset[Neighbour]:
    found = {Neighbour(table=Table.TUNNEL, index=tunnel, mac=ANY_MAC, destination=end)}
    for number in range(count):
        mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        found.add(Neighbour(table=Table.TUNNEL, index=tunnel, mac=mac, destination=end))
        found.add(Neighbour(table=Table.BRIDGE, index=tunnel, mac=mac))
        address = f"10.9.{number >> 8}.{number & 255}"
        found.add(Neighbour(table=Table.ADDRESS, index=bridge, mac=mac, destination=address))
    return frozenset(found)


@pytest.mark.real
def test_thousands_of_entries_come_move_and_go(links: tuple[int, int]) -> None:
    tunnel, bridge = links
    first, second = entries(*links, "192.0.2.2"), entries(*links, "192.0.2.3")
    with open_neighbours() as neighbours:

        def holds(wanted: frozenset[Neighbour]) -> bool:
            """In one of some looks: a look may miss what is there (see the module), but never finds what is not."""
            looks = (
                frozenset((*neighbours.list_behind(tunnel), *neighbours.list_addresses(bridge))) for _ in range(LOOKS)
            )
            return any(look == wanted for look in looks)

        assert holds(frozenset())
        for _ in range(2):
            neighbours.change((), first)
            assert holds(first)
        neighbours.change([entry for entry in first if entry.mac == ANY_MAC], second - first)
        assert holds(second)
        for _ in range(2):
            neighbours.change(second, ())
            assert holds(frozenset())


@pytest.mark.real
def test_entries_of_ipv6_are_kept_beside_the_others(links: tuple[int, int]) -> None:
    _, bridge = links
    six = Neighbour(table=Table.ADDRESS, index=bridge, mac="02:00:00:00:00:01", destination="fd00::5")
    with open_neighbours() as neighbours:
        neighbours.change((), [six])
        assert neighbours.list_addresses(bridge) == (six,)
        neighbours.change([six], ())
        assert neighbours.list_addresses(bridge) == ()


@pytest.mark.real
def test_what_the_kernel_refuses_is_an_error_and_what_was_there_stays(links: tuple[int, int]) -> None:
    tunnel, _ = links
    there = Neighbour(table=Table.BRIDGE, index=tunnel, mac="02:00:00:00:00:01")
    gone = Neighbour(table=Table.BRIDGE, index=4096, mac="02:00:00:00:00:02")
    with open_neighbours() as neighbours:
        with pytest.raises(Retryable, match="No such device"):
            neighbours.change((), [there, gone])
        assert neighbours.list_behind(tunnel) == (there,)


def test_the_kernels_answers_are_read_in_order() -> None:
    def answer(code: int) -> bytes:
        return struct.pack("=IHHIIi", 36, 2, 0, 1, 1, -code) + bytes(16)

    assert parse_codes(answer(0) + answer(errno.ENOENT) + answer(errno.EPERM)) == [0, errno.ENOENT, errno.EPERM]


@pytest.mark.parametrize(("code", "reaction"), [(errno.EPERM, DoesNotFit), (errno.ENOBUFS, Retryable)])
def test_a_refusal_asks_for_the_right_reaction(code: int, reaction: type[Exception]) -> None:
    class Kernel:
        def sendto(self, *_: object) -> None: ...

        def recv(self, _: int) -> bytes:
            return struct.pack("=IHHIIi", 36, 2, 0, 1, 1, -code) + bytes(16)

    with pytest.raises(reaction):
        door._change_chunk(Kernel(), [b""], [0])  # type: ignore[arg-type]


def test_a_look_that_failed_is_never_an_empty_answer() -> None:
    class Failing:
        def get_neighbours(self, **_: object) -> object:
            raise OSError(errno.EBADF, "closed")

    with pytest.raises(CannotAsk):
        door.Neighbours(Failing()).list_behind(7)
