"""Addresses: one by one, never twice, and given back."""

import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv6Network
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskvisor.model.errors import Busy, NoCapacity, Refused
from taskvisor.model.ids import InstanceId, PortId, mac_for, port_id_for
from taskvisor.model.network import Ipv6Mode, Network
from taskvisor.state.addresses import Addresses, Allocated, GivenAddresses
from taskvisor.state.admission import Admission
from taskvisor.state.connection import open_redis
from taskvisor.state.keys import Keys
from taskvisor.state.networks import Networks
from tests.support.records import NETWORK, claim, instance, network, operation, port
from tests.support.world import read_everything


@pytest.fixture
def addresses(addresses: Addresses, networks: Networks) -> Addresses:
    networks.ensure(TINY)
    return addresses


TINY = network("tiny", "10.9.0.0/29")  # .2 to .6 are for guests


def port_number(number: int) -> PortId:
    return port_id_for(InstanceId("guest"), number)


def allocate(
    addresses: Addresses, number: int, of: Network = TINY, *, wanted: str | None = None, now: float = 1.0
) -> str:
    port_id = port_number(number)
    return addresses.allocate(of, port_id, mac=mac_for(port_id), wanted=wanted, now=now).address


def allocated(number: int, of: Network = TINY) -> Allocated:
    return Allocated(network_id=of.id, port_id=port_number(number), mac=mac_for(port_number(number)))


def test_addresses_are_given_out_in_order_after_the_gateways(addresses: Addresses) -> None:
    assert [allocate(addresses, number) for number in range(5)] == [f"10.9.0.{last}" for last in range(2, 7)]


def test_addresses_count_on_past_the_octets(addresses: Addresses, client: redis.Redis, keys: Keys) -> None:
    client.set(keys.next_address(NETWORK.id), 254)

    assert [allocate(addresses, number, NETWORK) for number in range(3)] == [
        "10.152.0.255",
        "10.152.1.0",
        "10.152.1.1",
    ]


def test_the_same_port_again_has_the_same_address(addresses: Addresses, client: redis.Redis) -> None:
    first = allocate(addresses, 0)
    before = read_everything(client)

    assert allocate(addresses, 0) == first
    assert read_everything(client) == before


def test_an_address_may_be_wanted(addresses: Addresses) -> None:
    assert allocate(addresses, 0, wanted="10.9.0.3") == "10.9.0.3"
    assert [allocate(addresses, number) for number in (1, 2)] == ["10.9.0.2", "10.9.0.4"]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("10.9.0.8", "address: 10.9.0.8 is not in 10.9.0.0/29, the addresses of network 'tiny'"),
        ("192.168.0.2", "address: 192.168.0.2 is not in 10.9.0.0/29, the addresses of network 'tiny'"),
        (
            "10.9.0.0",
            "address: 10.9.0.0 is the network's own, its gateway's or its broadcast address; choose another",
        ),
        (
            "10.9.0.1",
            "address: 10.9.0.1 is the network's own, its gateway's or its broadcast address; choose another",
        ),
        (
            "10.9.0.7",
            "address: 10.9.0.7 is the network's own, its gateway's or its broadcast address; choose another",
        ),
    ],
)
def test_an_address_that_is_none_for_guests_is_refused(
    addresses: Addresses, client: redis.Redis, wanted: str, sentence: str
) -> None:
    before = read_everything(client)
    with pytest.raises(Refused) as refusal:
        allocate(addresses, 0, wanted=wanted)

    assert str(refusal.value) == sentence
    assert read_everything(client) == before


def test_an_address_that_is_taken_is_refused_with_its_port(addresses: Addresses) -> None:
    allocate(addresses, 0, wanted="10.9.0.3")

    with pytest.raises(Refused) as refusal:
        allocate(addresses, 1, wanted="10.9.0.3")

    assert str(refusal.value) == (
        f"address: 10.9.0.3 on network 'tiny' belongs to port {port_number(0)}; choose another"
    )


def test_a_mac_that_is_taken_is_refused_on_its_network_only(addresses: Addresses) -> None:
    mac = "52:54:00:00:00:01"
    addresses.allocate(TINY, port_number(0), mac=mac, wanted=None, now=1.0)

    with pytest.raises(Refused) as refusal:
        addresses.allocate(TINY, port_number(1), mac=mac, wanted=None, now=1.0)

    assert str(refusal.value) == f"mac: {mac} on network 'tiny' belongs to port {port_number(0)}; choose another"
    assert addresses.allocate(NETWORK, port_number(1), mac=mac, wanted=None, now=1.0).address == "10.152.0.2"


def test_a_full_network_says_so_and_a_freed_address_is_used_again(addresses: Addresses) -> None:
    for number in range(5):
        allocate(addresses, number)

    with pytest.raises(NoCapacity) as refusal:
        allocate(addresses, 5)
    addresses.give_back(allocated(3))

    assert str(refusal.value) == "network 'tiny': all 5 addresses of 10.9.0.0/29 are taken"
    assert allocate(addresses, 5) == "10.9.0.5"
    with pytest.raises(NoCapacity):
        allocate(addresses, 6)


def test_addresses_never_used_come_before_freed_ones(addresses: Addresses) -> None:
    for number in range(3):
        allocate(addresses, number)
        addresses.give_back(allocated(number))

    assert [allocate(addresses, number) for number in range(3)] == ["10.9.0.5", "10.9.0.6", "10.9.0.2"]


def test_giving_back_and_asking_for_one_address_for_ever_takes_no_room(
    addresses: Addresses, client: redis.Redis, keys: Keys
) -> None:
    for _ in range(20):
        allocate(addresses, 0, wanted="10.9.0.3")
        addresses.give_back(allocated(0))

    assert client.zcard(keys.freed(TINY.id)) == 1


def test_what_was_given_back_leaves_only_what_the_network_itself_remembers(
    addresses: Addresses, client: redis.Redis, keys: Keys
) -> None:
    before = set(read_everything(client))
    allocate(addresses, 0)

    assert addresses.give_back(allocated(0)) is True
    assert addresses.give_back(allocated(0)) is False

    assert set(read_everything(client)) - before == {keys.freed(TINY.id), keys.next_address(TINY.id)}


def test_another_request_of_the_same_id_waits_until_the_first_is_settled(addresses: Addresses) -> None:
    """Its port is the same; were its MAC or address taken instead, giving back the first would free the second's."""
    allocate(addresses, 0)

    with pytest.raises(Busy):
        addresses.allocate(TINY, port_number(0), mac="52:54:00:00:00:01", wanted=None, now=2.0)
    with pytest.raises(Busy):
        allocate(addresses, 0, wanted="10.9.0.6")
    addresses.give_back(allocated(0))

    again = addresses.allocate(TINY, port_number(0), mac="52:54:00:00:00:01", wanted="10.9.0.6", now=2.0)
    assert again.address == "10.9.0.6"


def test_a_port_is_forgotten_from_the_time_it_was_last_asked_for(addresses: Addresses) -> None:
    allocate(addresses, 0, now=100.0)
    allocate(addresses, 1, now=200.0)
    allocate(addresses, 0, now=300.0)

    assert addresses.list_forgotten(99.0) == ()
    assert addresses.list_forgotten(250.0) == (allocated(1),)
    assert addresses.list_forgotten(300.0) == (allocated(1), allocated(0))


def test_a_port_asked_for_again_since_it_was_listed_is_not_given_back(addresses: Addresses) -> None:
    allocate(addresses, 0, now=100.0)
    (forgotten,) = addresses.list_forgotten(200.0)
    allocate(addresses, 0, now=700.0)

    assert addresses.give_back(forgotten, noted_before=200.0) is False
    assert allocate(addresses, 0) == "10.9.0.2"


def test_a_port_that_became_part_of_an_instance_is_never_given_back_as_forgotten(
    addresses: Addresses, admission: Admission
) -> None:
    guest = instance(operation_id="build", ports=())
    nic = replace(port(guest.id), network_id=TINY.id, address="10.9.0.2")
    noted = Allocated(network_id=TINY.id, port_id=nic.id, mac=nic.mac)
    addresses.allocate(TINY, nic.id, mac=nic.mac, wanted=None, now=1.0)
    built = replace(guest, ports=(nic,))
    admission.admit_build(operation("build", built), built, claim(built))

    again = addresses.allocate(TINY, nic.id, mac=nic.mac, wanted=None, now=2.0)  # a late twin of the request

    assert again.address == "10.9.0.2"
    assert addresses.list_forgotten(1e12) == ()
    assert addresses.give_back(noted) is False
    assert allocate(addresses, 7) == "10.9.0.3"


THREADS, EACH = 4, 500
"""Of each of five processes: ten thousand requests."""
WIDE = replace(network("wide", "10.64.0.0/16"), cidr6="fd00:64::/64", gateway6="fd00:64::1", ipv6_mode=Ipv6Mode.DHCPV6)


def allocate_many(redis_url: str, first: int) -> None:
    """As a worker of its own, in several threads."""
    addresses = Addresses(open_redis(redis_url, timeout_s=30.0), Keys("tv:"))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda number: allocate(addresses, number, WIDE), range(first, first + THREADS * EACH)))


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_of_ten_thousand_requests_at_once_none_gets_anothers_addresses_and_none_is_lost_with_its_caller(
    addresses: Addresses, networks: Networks, redis_url: str, client: redis.Redis, keys: Keys
) -> None:
    networks.ensure(WIDE)
    fork = multiprocessing.get_context("fork")
    callers = [fork.Process(target=allocate_many, args=(redis_url, THREADS * EACH * part)) for part in range(5)]
    for caller in callers:
        caller.start()
    while not client.hexists(keys.ports(WIDE.id), port_number(EACH // 2)):
        assert callers[0].is_alive()
    callers[0].kill()
    for caller in callers:
        caller.join(500)
    given = client.hgetall(keys.ports(WIDE.id))
    allocate_many(redis_url, 0)  # what the dead one asked for is asked for again

    held, held6 = client.hgetall(keys.ports(WIDE.id)), client.hgetall(keys.ports6(WIDE.id))
    assert [caller.exitcode for caller in callers] == [-signal.SIGKILL, 0, 0, 0, 0]
    assert set(held) == set(held6) == {port_number(number) for number in range(10_000)}
    assert given.items() <= held.items()
    assert {address: port for port, address in held.items()} == client.hgetall(keys.addresses(WIDE.id))
    assert {address: port for port, address in held6.items()} == client.hgetall(keys.addresses6(WIDE.id))
    assert client.zcard(keys.allocating) == client.hlen(keys.macs) == 10_000  # so a sweep finds each that nobody wants


def dual(name: str = "dual", cidr6: str = "fd00:5::/64", mode: Ipv6Mode = Ipv6Mode.DHCPV6, **fields: Any) -> Network:
    gateway6 = str(IPv6Network(cidr6).network_address + 1)
    return replace(network(name, "10.5.0.0/24"), cidr6=cidr6, gateway6=gateway6, ipv6_mode=mode, **fields)


def ask6(addresses: Addresses, number: int, of: Network, *, wanted6: str | None = None) -> str | None:
    port_id = port_number(number)
    given = addresses.allocate(of, port_id, mac=mac_for(port_id), wanted=None, wanted6=wanted6, now=1.0)
    return given.address6


def test_ipv6_addresses_are_given_out_in_order_after_the_gateways_and_go_round(
    addresses: Addresses, networks: Networks
) -> None:
    small = networks.ensure(dual(cidr6="fd00:5::8/125"))  # its first is any router's, its second the gateway

    assert [ask6(addresses, number, small) for number in range(3)] == ["fd00:5::a", "fd00:5::b", "fd00:5::c"]
    addresses.give_back(allocated(0, small))

    assert [ask6(addresses, number, small) for number in (3, 4, 5, 6)] == [f"fd00:5::{last}" for last in "defa"]
    with pytest.raises(NoCapacity, match="network 'dual': all addresses of fd00:5::8/125 are taken"):
        ask6(addresses, 7, small)


def test_a_port_that_gets_no_ipv6_address_holds_no_ipv4_address(
    addresses: Addresses, networks: Networks, client: redis.Redis, keys: Keys
) -> None:
    small = networks.ensure(dual(cidr6="fd00:5::/126"))
    taken = [ask6(addresses, number, small) for number in range(2)]

    with pytest.raises(NoCapacity):
        ask6(addresses, 2, small)

    assert taken == ["fd00:5::2", "fd00:5::3"]
    assert set(client.hgetall(keys.addresses(small.id))) == {"10.5.0.2", "10.5.0.3"}
    assert client.zcard(keys.allocating) == 2


def test_a_guest_that_makes_its_own_address_is_given_that_of_its_mac(addresses: Addresses, networks: Networks) -> None:
    slaac = networks.ensure(dual(mode=Ipv6Mode.SLAAC))

    given = addresses.allocate(slaac, port_number(0), mac="52:54:00:12:34:56", wanted=None, now=1.0)

    assert given == GivenAddresses(address="10.5.0.2", address6="fd00:5::5054:ff:fe12:3456")


@pytest.mark.parametrize(
    ("mode", "wanted6", "reason"),
    [
        (Ipv6Mode.DHCPV6, "fd00:6::7", "address6: fd00:6::7 is not in fd00:5::/64, the addresses of network 'dual'"),
        (Ipv6Mode.DHCPV6, "fd00:5::1", "address6: fd00:5::1 is the network's own, its gateway's"),
        (Ipv6Mode.DHCPV6, "fd00:5::", "address6: fd00:5:: is the network's own, its gateway's"),
        (Ipv6Mode.DHCPV6, "fd00:5::53", "address6: fd00:5::53 is a server's or router's that guests are told of"),
        (Ipv6Mode.SLAAC, "fd00:5::7", "address6: fd00:5::7: guests of network 'dual' make their own, with 52:54:"),
    ],
)
def test_an_ipv6_address_that_is_none_for_the_guest_is_refused(
    addresses: Addresses, networks: Networks, client: redis.Redis, mode: Ipv6Mode, wanted6: str, reason: str
) -> None:
    of = networks.ensure(dual(mode=mode, dns=("fd00:5::53", "10.5.0.53", "192.0.2.53")))
    before = read_everything(client)

    with pytest.raises(Refused) as refusal:
        ask6(addresses, 0, of, wanted6=wanted6)

    assert str(refusal.value).startswith(reason)
    assert read_everything(client) == before


def test_a_network_without_ipv6_gives_none_and_one_that_is_wanted_is_refused(addresses: Addresses) -> None:
    assert ask6(addresses, 0, TINY) is None
    with pytest.raises(Refused, match="address6: fd00:5::7: network 'tiny' has no IPv6; leave it out"):
        ask6(addresses, 1, TINY, wanted6="fd00:5::7")


def test_an_ipv6_address_that_is_taken_is_refused_with_its_port(addresses: Addresses, networks: Networks) -> None:
    of = networks.ensure(dual())
    ask6(addresses, 0, of, wanted6="fd00:5::7")

    with pytest.raises(Refused, match=f"address6: fd00:5::7 on network 'dual' belongs to port {port_number(0)}"):
        ask6(addresses, 1, of, wanted6="fd00:5::7")
    with pytest.raises(Busy):
        ask6(addresses, 0, of, wanted6="fd00:5::8")


def test_both_addresses_are_given_back_with_the_port(
    addresses: Addresses, networks: Networks, client: redis.Redis, keys: Keys
) -> None:
    of = networks.ensure(dual())
    before = set(read_everything(client))
    ask6(addresses, 0, of)

    assert addresses.give_back(allocated(0, of))

    left = {keys.freed(of.id), keys.next_address(of.id), keys.next_address6(of.id)}
    assert set(read_everything(client)) - before == left


def test_no_guest_gets_the_address_of_a_gateway_or_server_wherever_it_is(
    addresses: Addresses, networks: Networks
) -> None:
    odd = replace(network("odd", "10.8.0.0/29"), gateway="10.8.0.6", dns=("10.8.0.2",))
    networks.ensure(odd)

    assert [allocate(addresses, number, odd) for number in range(4)] == [f"10.8.0.{last}" for last in (1, 3, 4, 5)]
    with pytest.raises(NoCapacity, match=r"network 'odd': all 4 addresses of 10\.8\.0\.0/29 are taken"):
        allocate(addresses, 4, odd)


def test_a_network_that_is_gone_gives_nothing(addresses: Addresses, networks: Networks, client: redis.Redis) -> None:
    with pytest.raises(Refused, match="networks: 'dual': it was deleted just now"):
        ask6(addresses, 0, dual())


@given(base=st.integers(0, (1 << 96) - 1), offset=st.integers(1, 1 << 20))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_addresses_are_written_as_everybody_writes_them(redis_url: str, base: int, offset: int) -> None:
    """RFC 5952, as `ipaddress` does: else one address would have two names, and be given out under each."""
    cidr6 = str(IPv6Network((base << 32, 96)))
    of = dual(name="any", cidr6=cidr6)
    keys = Keys("tv:")
    with open_redis(redis_url, timeout_s=10.0) as client:
        client.flushdb()
        client.set(keys.network(of.id), "recorded")
        client.set(keys.next_address6(of.id), offset)
        given = ask6(Addresses(client, keys), 0, of)

    assert given == str(IPv6Network(cidr6).network_address + offset + 1)


class AddressBook(RuleBasedStateMachine):
    """Whatever is asked for and given back in whatever order, no two ports have the same address."""

    addresses: Addresses

    def __init__(self) -> None:
        super().__init__()
        for key in self.addresses._client.keys("tv:*:" + TINY.id):
            if key != "tv:network:" + TINY.id:
                self.addresses._client.delete(key)
        self.addresses._client.delete("tv:macs", "tv:allocating")
        self.held: dict[int, str] = {}

    @rule(number=st.integers(0, 7), wanted=st.none() | st.integers(2, 6))
    def ask(self, number: int, wanted: int | None) -> None:
        asked = None if wanted is None else f"10.9.0.{wanted}"
        try:
            address = allocate(self.addresses, number, wanted=asked)
        except Refused:
            assert asked in self.held.values()
        except Busy:
            assert self.held[number] != asked
        except NoCapacity:
            assert len(self.held) == 5
        else:
            assert self.held.get(number, address) == address
            assert asked in (None, address)
            self.held[number] = address

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.held)))
        assert self.addresses.give_back(allocated(number))
        del self.held[number]

    @invariant()
    def no_address_is_held_twice(self) -> None:
        assert len(set(self.held.values())) == len(self.held)


def test_no_order_of_asking_and_giving_back_gives_an_address_twice(addresses: Addresses) -> None:
    class Book(AddressBook):
        pass

    Book.addresses = addresses
    Book.TestCase.settings = settings(
        max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    Book.TestCase("runTest").debug()


def test_a_note_that_is_none_of_ours_is_passed_over(client: redis.Redis, keys: Keys, addresses: Addresses) -> None:
    client.zadd(keys.allocating, {"spam": 0.0, "a b c d": 0.0, "net port mac": 0.0})

    assert [port.port_id for port in addresses.list_forgotten(before=1.0)] == ["port"]
    assert client.zcard(keys.allocating) == 3
