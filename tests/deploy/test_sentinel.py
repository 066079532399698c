"""A Redis that Sentinel moves: three servers, three sentinels, the shipped proxy, and real nodes that go on after a failover."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.deploy.redis_processes import Processes, answers, free_port, open_processes, start_redis
from tests.fixtures.machine import ROOT
from tests.system.nodes import running_nodes, wait_until
from workers.transport import broker_url_for

pytestmark = pytest.mark.real

CONFIG = ROOT / "deploy" / "haproxy" / "taskvisor-redis.cfg"
LIMIT_S = 180.0
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
SENTINEL = """port {port}
bind 127.0.0.1
dir {dir}
sentinel monitor taskvisor 127.0.0.1 {master} 2
sentinel down-after-milliseconds taskvisor 3000
sentinel failover-timeout taskvisor 10000
"""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Three servers, the first the master, watched by three sentinels, behind the proxy."""

    processes: Processes
    ports: tuple[int, ...]
    proxy: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.proxy}/0"

    def masters(self) -> list[int]:
        """The servers that say that they are master."""
        return [port for port in self.ports if _role(port) == "master"]


def _role(port: int) -> str:
    try:
        with redis.Redis(port=port, socket_timeout=2, decode_responses=True) as client:
            return str(client.role()[0])
    except redis.RedisError:
        return "silent"


@pytest.fixture
def watched() -> Iterator[Watched]:
    with open_processes() as processes:
        ports = tuple(free_port() for _ in range(3))
        for number, port in enumerate(ports, 1):
            # An isolated master takes no writes that would be lost: to nodes that is silence, and they try again.
            options = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "5"]
            if number > 1:
                options += ["--replicaof", "127.0.0.1", str(ports[0])]
            start_redis(processes, f"redis-{number}", port, *options)
        start_sentinels(processes, ports[0])
        proxy = free_port()
        start_proxy(processes, proxy, ports)
        yield Watched(processes=processes, ports=ports, proxy=proxy)


def start_sentinels(processes: Processes, master: int) -> None:
    ports = [free_port() for _ in range(3)]
    for port in ports:
        file = processes.directory / f"sentinel-{port}.conf"
        file.write_text(SENTINEL.format(port=port, dir=processes.directory, master=master))
        processes.start(f"sentinel-{port}", "redis-server", str(file), "--sentinel")
    wait_until(lambda: all(_knows_all(port) for port in ports), "the sentinels to know each other", LIMIT_S)


def _knows_all(port: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=2, decode_responses=True) as client:
            state = client.sentinel_master("taskvisor")
    except redis.RedisError:
        return False
    return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 2


def start_proxy(processes: Processes, proxy: int, ports: tuple[int, ...]) -> None:
    """The shipped configuration, with this test's addresses in it."""
    text = CONFIG.read_text().replace("127.0.0.1:6380", f"127.0.0.1:{proxy}")
    for number, port in enumerate(ports, 1):
        text = text.replace(f"10.0.0.{number}:6379", f"127.0.0.1:{port}")
    assert not re.search(r"^ *(bind|server) .*(6380|10\.0\.0)", text, re.MULTILINE)
    file = processes.directory / "haproxy.cfg"
    file.write_text(text)
    processes.start("haproxy", "haproxy", "-f", str(file))
    wait_until(lambda: answers(f"redis://127.0.0.1:{proxy}/0"), f"the proxy: {processes.said('haproxy')}", LIMIT_S)


def test_nodes_go_on_when_sentinel_has_made_another_server_master(watched: Watched, tmp_state_dir: Path) -> None:
    with running_nodes(watched.url, tmp_state_dir) as nodes:
        before = nodes.ask("instance.build", name="web1", image="simulated://debian?virtual_gib=1", flavor=SMALL)
        with redis.Redis(port=watched.ports[0]) as master:
            master.wait(1, 5000)  # what is to be kept has been copied
        watched.processes.kill("redis-1")
        wait_until(lambda: len(watched.masters()) == 1, "another master", LIMIT_S)
        wait_until(lambda: answers(watched.url), "the proxy to lead to it", LIMIT_S)

        nodes.forget("none")  # another producer: this one's connections are to the server that is dead
        after = nodes.send("instance.build", name="web2", image="simulated://debian?virtual_gib=1", flavor=SMALL)

        assert after.get(timeout=LIMIT_S)["vm_state"] == "active"
        kept = nodes.catalog.read_instance(before["id"])
        assert kept is not None
        assert kept.name == "web1"
        assert nodes.runs("steps")
        assert nodes.runs("control")


def test_a_sentinel_url_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="sentinel:// is no Redis URL"):
        broker_url_for("sentinel://10.0.0.1:26379/0")
