"""The fixtures themselves: tests may trust them."""

import subprocess
from pathlib import Path

import libvirt
import pytest
import redis

from tests.fixtures.hosts import Libvirtd
from tests.fixtures.namespaces import links_in
from tests.fixtures.redis_servers import OpenRedisServer


@pytest.mark.parametrize("round_number", [1, 2])
def test_each_redis_url_is_an_empty_database(redis_url: str, round_number: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", round_number)


def test_redis_never_evicts_and_listens_on_no_port(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}


def test_a_redis_with_appendonly_keeps_its_data_when_killed(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server(appendonly="yes")
    with redis.Redis.from_url(server.url()) as client:
        client.set("key", "value")
    server.kill()
    assert server.pid is None
    server.start()
    with redis.Redis.from_url(server.url()) as client:
        assert client.get("key") == b"value"


def test_a_redis_ended_twice_is_ended(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    server.kill()
    server.stop()
    assert server.pid is None


@pytest.mark.real
def test_a_fresh_host_has_no_links(host_namespace: str) -> None:
    said = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True, timeout=10)
    assert said.stdout.split()[0] == "lo"
    assert len(said.stdout.splitlines()) == 1


@pytest.mark.real
def test_the_machine_does_not_see_the_links_of_a_host(host_namespace: str) -> None:
    subprocess.run(["ip", "link", "add", "tvt-probe", "type", "bridge"], check=True, timeout=10)
    assert set(links_in(host_namespace)) == {"tvt-probe"}
    assert not Path("/sys/class/net/tvt-probe").exists()


@pytest.mark.real
def test_libvirtd_answers_and_lives_in_the_namespace_of_its_test(
    libvirtd: Libvirtd, libvirt_uri: str, host_namespace: str
) -> None:
    connection = libvirt.open(libvirt_uri)
    try:
        assert connection.listAllDomains() == []
    finally:
        connection.close()
    assert libvirtd.namespace == host_namespace
    assert Path(f"/proc/{libvirtd.pid}/ns/net").samefile("/proc/thread-self/ns/net")


@pytest.mark.real
def test_a_restarted_libvirtd_answers_at_the_same_uri(libvirtd: Libvirtd) -> None:
    before = libvirtd.pid
    libvirtd.stop()
    libvirtd.start()
    assert libvirtd.pid != before
    libvirt.open(libvirtd.uri).close()


def test_a_state_directory_is_empty_and_short(tmp_state_dir: Path) -> None:
    assert list(tmp_state_dir.iterdir()) == []
    assert len(str(tmp_state_dir)) < 40
