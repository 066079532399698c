"""Addresses: one by one, never twice, and given back."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskvisor.model.errors import Busy, NoCapacity, Refused
from taskvisor.model.ids import InstanceId, PortId, mac_for, port_id_for
from taskvisor.model.network import Network
from taskvisor.state.addresses import Addresses, Allocated
from taskvisor.state.admission import Admission
from taskvisor.state.connection import open_redis
from taskvisor.state.keys import Keys
from tests.support.records import NETWORK, claim, instance, network, operation, port
from tests.support.world import read_everything

TINY = network("tiny", "10.9.0.0/29")  # .2 to .6 are for guests


def port_number(number: int) -> PortId:
    return port_id_for(InstanceId("guest"), number)


def allocate(
    addresses: Addresses, number: int, of: Network = TINY, *, wanted: str | None = None, now: float = 1.0
) -> str:
    port_id = port_number(number)
    return addresses.allocate(of, port_id, mac=mac_for(port_id), wanted=wanted, now=now)


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
    with pytest.raises(Refused) as refusal:
        allocate(addresses, 0, wanted=wanted)

    assert str(refusal.value) == sentence
    assert read_everything(client) == {}


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
    assert addresses.allocate(NETWORK, port_number(1), mac=mac, wanted=None, now=1.0) == "10.152.0.2"


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
    allocate(addresses, 0)

    assert addresses.give_back(allocated(0)) is True
    assert addresses.give_back(allocated(0)) is False

    assert set(read_everything(client)) == {keys.freed(TINY.id), keys.next_address(TINY.id)}


def test_another_request_of_the_same_id_waits_until_the_first_is_settled(addresses: Addresses) -> None:
    """Its port is the same; were its MAC or address taken instead, giving back the first would free the second's."""
    allocate(addresses, 0)

    with pytest.raises(Busy):
        addresses.allocate(TINY, port_number(0), mac="52:54:00:00:00:01", wanted=None, now=2.0)
    with pytest.raises(Busy):
        allocate(addresses, 0, wanted="10.9.0.6")
    addresses.give_back(allocated(0))

    assert addresses.allocate(TINY, port_number(0), mac="52:54:00:00:00:01", wanted="10.9.0.6", now=2.0) == "10.9.0.6"


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

    assert again == "10.9.0.2"
    assert addresses.list_forgotten(1e12) == ()
    assert addresses.give_back(noted) is False
    assert allocate(addresses, 7) == "10.9.0.3"


def allocate_many(redis_url: str, first: int) -> list[str]:
    addresses = Addresses(open_redis(redis_url, timeout_s=10.0), Keys("tv:"))
    return [allocate(addresses, number, NETWORK) for number in range(first, first + 250)]


def test_of_a_thousand_addresses_given_to_four_processes_none_is_given_twice(
    redis_url: str, client: redis.Redis, keys: Keys
) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        futures = [pool.submit(allocate_many, redis_url, 250 * number) for number in range(4)]
        given = [address for future in futures for address in future.result(60)]

    assert len(given) == len(set(given)) == 1000
    assert client.hlen(keys.addresses(NETWORK.id)) == 1000


class AddressBook(RuleBasedStateMachine):
    """Whatever is asked for and given back in whatever order, no two ports have the same address."""

    addresses: Addresses

    def __init__(self) -> None:
        super().__init__()
        self.addresses._client.flushdb()
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
