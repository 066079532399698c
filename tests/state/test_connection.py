"""What Redis's silence means: CannotAsk, within the time-out, and nothing else."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from taskvisor.model.errors import CannotAsk, UnreadableRecord
from taskvisor.model.ids import HostName, InstanceId, OperationId, mac_for, port_id_for
from taskvisor.state.addresses import Addresses
from taskvisor.state.admission import Admission
from taskvisor.state.catalog import Catalog
from taskvisor.state.connection import open_redis
from taskvisor.state.events import Events
from taskvisor.state.floating import FloatingAddresses
from taskvisor.state.hosts import Hosts
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.networks import Networks
from taskvisor.state.security_groups import SecurityGroups
from taskvisor.state.surroundings import SurroundingsReader
from taskvisor.state.writing import Writer
from tests.fixtures.redis_servers import OpenRedisServer, RedisServer
from tests.support.records import NETWORK, claim, instance, inventory, operation

TIMEOUT_S = 0.1
IN_TIME_S = 5 * TIMEOUT_S + 30.0
"""What `open_redis` promises, and what a loaded machine may add."""
KEYS = Keys("tv:")
WRITER = Writer(keys=KEYS, operation_keep_s=60, events_kept=100, outcome_for=lambda *_: None)
GUEST = instance(ports=())
OP = operation("build-web", GUEST)
H1 = HostName("h1")
PORT = port_id_for(GUEST.id, 0)

CALLS: dict[str, Callable[[redis.Redis], object]] = {
    "journal.load": lambda client: RedisJournal(client, WRITER).load(OP.id),
    "journal.note_progress": lambda client: RedisJournal(client, WRITER).note_progress(OP, "only", 1, 2),
    "admission.admit_build": lambda client: Admission(client, WRITER).admit_build(OP, GUEST, claim(GUEST)),
    "admission.read_holding": lambda client: Admission(client, WRITER).read_holding(GUEST.id),
    "catalog.find_instance": lambda client: Catalog(client, KEYS).find_instance("web"),
    "catalog.list_instances": lambda client: Catalog(client, KEYS).list_instances(),
    "catalog.list_operations": lambda client: Catalog(client, KEYS).list_operations(),
    "catalog.list_unsettled": lambda client: Catalog(client, KEYS).list_unsettled(before=1.0),
    "catalog.list_unsettled_on": lambda client: Catalog(client, KEYS).list_unsettled_on(H1),
    "catalog.find_operation": lambda client: Catalog(client, KEYS).find_operation("build"),
    "catalog.read_progress": lambda client: Catalog(client, KEYS).read_progress(OperationId("x")),
    "catalog.list_images": lambda client: Catalog(client, KEYS).list_images(),
    "catalog.list_networks": lambda client: Catalog(client, KEYS).list_networks(),
    "networks.ensure": lambda client: Networks(client, WRITER).ensure(NETWORK),
    "networks.read_list": lambda client: Networks(client, WRITER).read_list(),
    "groups.find": lambda client: SecurityGroups(client, KEYS).find("default"),
    "groups.list": lambda client: SecurityGroups(client, KEYS).list(),
    "floating.list": lambda client: FloatingAddresses(client, KEYS).list(),
    "floating.look_up": lambda client: FloatingAddresses(client, KEYS).look_up("192.0.2.7"),
    "surroundings.read_surroundings": lambda client: SurroundingsReader(client, KEYS).read_surroundings(NETWORK.id),
    "surroundings.hosts_concerned": lambda client: SurroundingsReader(client, KEYS).hosts_concerned([NETWORK.id]),
    "catalog.forget_expired": lambda client: Catalog(client, KEYS).forget_expired(),
    "addresses.allocate": lambda client: Addresses(client, KEYS).allocate(
        NETWORK, PORT, mac=mac_for(PORT), wanted=None, now=1.0
    ),
    "addresses.list_forgotten": lambda client: Addresses(client, KEYS).list_forgotten(1.0),
    "hosts.list_hosts": lambda client: Hosts(client, KEYS).list_hosts(),
    "hosts.note_alive": lambda client: Hosts(client, KEYS).note_alive(H1, "first", keep_s=60),
    "hosts.write_inventory": lambda client: Hosts(client, KEYS).write_inventory(H1, inventory()),
    "hosts.read_incarnation": lambda client: Hosts(client, KEYS).read_incarnation(H1),
    "hosts.list_claims": lambda client: Hosts(client, KEYS).list_claims(H1),
    "hosts.note_taking": lambda client: Hosts(client, KEYS).note_taking(H1, "first", keep_s=60),
    "hosts.list_not_taking": lambda client: Hosts(client, KEYS).list_not_taking(),
    "events.read_after": lambda client: Events(client, KEYS).read_after("0", wait_s=0.01),
}


@pytest.fixture(scope="module")
def dead_socket(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"unix://{tmp_path_factory.mktemp('gone')}/redis.sock"


@pytest.mark.parametrize("call", CALLS)
def test_a_redis_that_is_not_there_cannot_be_asked(dead_socket: str, call: str) -> None:
    client = open_redis(dead_socket, timeout_s=TIMEOUT_S)

    with pytest.raises(CannotAsk, match=r"Redis did not answer when asked to .*; is it up and reachable\?"):
        CALLS[call](client)


@pytest.fixture
def silent_server(open_redis_server: OpenRedisServer) -> Iterator[RedisServer]:
    """A server that takes connections and never answers, until the test lets it."""
    server = open_redis_server()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    yield server
    os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("call", ["journal.load", "hosts.list_hosts", "catalog.list_operations"])
def test_a_redis_that_hangs_is_an_error_in_time(silent_server: RedisServer, call: str) -> None:
    client = open_redis(silent_server.url(), timeout_s=TIMEOUT_S)
    began_at = time.monotonic()

    with pytest.raises(CannotAsk):
        CALLS[call](client)

    assert TIMEOUT_S <= time.monotonic() - began_at < IN_TIME_S
    client.close()


def test_a_connection_that_hangs_after_it_was_good_is_an_error_in_time(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    assert server.pid is not None
    client = open_redis(server.url(), timeout_s=TIMEOUT_S)
    hosts = Hosts(client, KEYS)
    hosts.note_alive(H1, "first", keep_s=60)
    os.kill(server.pid, signal.SIGSTOP)
    began_at = time.monotonic()
    try:
        with pytest.raises(CannotAsk):
            hosts.note_alive(H1, "second", keep_s=60)
        took_s = time.monotonic() - began_at
    finally:
        os.kill(server.pid, signal.SIGCONT)

    assert took_s < IN_TIME_S
    assert hosts.read_incarnation(H1) in ("first", "second")  # nobody may conclude from silence that it was not done
    client.close()


def test_a_restart_between_two_calls_is_not_noticed(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server(appendonly="yes")
    client = open_redis(server.url(), timeout_s=5.0)
    journal, admission = RedisJournal(client, WRITER), Admission(client, WRITER)
    admission.admit_build(OP, GUEST, claim(GUEST))

    server.kill()
    server.start()

    loaded = journal.load(OP.id)  # its scripts are forgotten and its connection is broken
    assert loaded is not None
    assert loaded.operation == OP
    assert admission.read_holding(InstanceId("x")) is None
    client.close()


@pytest.mark.parametrize("spelling", ["unix://{}?db=0", "redis+socket://{}?virtual_host=0"])
def test_either_spelling_opens_the_same_redis(redis_server: RedisServer, spelling: str) -> None:
    client = open_redis(spelling.format(redis_server.socket), timeout_s=5.0)

    assert client.ping()
    client.close()


def test_a_redis_that_is_full_is_one_to_ask_again(open_redis_server: OpenRedisServer) -> None:
    client = open_redis(open_redis_server().url(), timeout_s=5.0)
    client.config_set("maxmemory", "1")

    with pytest.raises(CannotAsk, match=r"Redis refused to admit operation build-web for now: .*memory"):
        Admission(client, WRITER).admit_build(OP, GUEST, claim(GUEST))
    with pytest.raises(CannotAsk, match="Redis refused to note that host h1 lives for now"):
        Hosts(client, KEYS).note_alive(H1, "first", keep_s=60)

    assert client.keys("*") == []
    client.config_set("maxmemory", "0")
    Admission(client, WRITER).admit_build(OP, GUEST, claim(GUEST))
    client.close()


def test_a_redis_that_became_a_replica_is_one_to_ask_again(open_redis_server: OpenRedisServer, tmp_path: Path) -> None:
    client = open_redis(open_redis_server().url(), timeout_s=5.0)
    client.replicaof("127.0.0.1", 1)

    with pytest.raises(CannotAsk, match="for now"):
        Admission(client, WRITER).admit_build(OP, GUEST, claim(GUEST))

    client.replicaof("NO", "ONE")
    Admission(client, WRITER).admit_build(OP, GUEST, claim(GUEST))
    client.close()


def test_a_key_of_another_type_is_unreadable(redis_url: str) -> None:
    client = open_redis(redis_url, timeout_s=5.0)
    client.sadd(KEYS.operation("build-web"), "no hash")

    for look in (RedisJournal(client, WRITER).load, Catalog(client, KEYS).read_operation):
        with pytest.raises(
            UnreadableRecord, match="read operation build-web: a key of it holds what Taskvisor never wrote"
        ):
            look(OP.id)
    client.close()


def test_bytes_that_are_no_text_are_unreadable_and_stay_as_they_are(redis_url: str) -> None:
    client = open_redis(redis_url, timeout_s=5.0)
    client.set(KEYS.instance("i"), b'{"id":"\xff"}')

    with pytest.raises(UnreadableRecord, match="instance i does not parse"):
        Catalog(client, KEYS).read_instance(InstanceId("i"))
    assert client.get(KEYS.instance("i")) == '{"id":"\udcff"}'
    client.set("copy", str(client.get(KEYS.instance("i"))))
    assert client.strlen("copy") == len(b'{"id":"\xff"}')
    client.close()
