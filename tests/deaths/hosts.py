"""What dies: the processes of hosts, by the very command lines of `taskvisor up`, and the Redis that they share."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from taskvisor.cli.nodes import BEAT, CONTROL, STEPS, beat_of, nodes_of
from taskvisor.cli.processes import kill_group
from taskvisor.settings import Settings
from taskvisor.state.catalog import Catalog
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.redis_servers import RedisServer
from tests.system.nodes import wait_until

if TYPE_CHECKING:
    import redis

STOP_LIMIT_S = 30.0
LOG_TAIL_BYTES = 8000
QUICK = {"sweep_s": 2.0, "heartbeat_s": 0.5, "metrics_port": 0}
"""Settings of hosts that need not be waited for."""
ROOMY = {"vcpu_ratio": 64.0, "memory_ratio": 8.0, "disk_ratio": 64.0}
"""Settings by which any number of tiny guests fits."""


class MortalHost:
    """The nodes of one host and a beat. Each may be killed, and started again; the state directory stays."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.host
        self._programs = {program.name: program for program in (*nodes_of(settings), beat_of(settings))}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def log(self) -> Path:
        return self.settings.state_dir / "processes.log"

    def start(self, *names: str) -> None:
        """These programs have been started; when they are ready is for others to see."""
        for name in names:
            program = self._programs[name]
            with self.log.open("ab") as log:
                self._running[name] = subprocess.Popen(
                    program.argv,
                    env=dict(program.environment),
                    cwd=program.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill(self, name: str) -> None:
        """SIGKILL to the program's own process: those that it forked are the kernel's to end."""
        process = self._running.pop(name)
        process.kill()
        process.wait(timeout=STOP_LIMIT_S)

    def end(self, name: str) -> int:
        """What the program returned, told to end in good order. TimeoutExpired when it does not heed that."""
        process = self._running[name]
        process.send_signal(signal.SIGTERM)
        returned = process.wait(timeout=STOP_LIMIT_S)
        del self._running[name]
        return returned

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """The program's own process is stopped (SIGSTOP) for the block, and goes on after it."""
        pid = self._running[name].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def pool(self, name: str) -> list[int]:
        """The pool processes of a node."""
        pid = self._running[name].pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def ended(self) -> list[str]:
        """Programs that have ended though nobody killed them."""
        return [name for name, process in self._running.items() if process.poll() is not None]

    def stop(self) -> None:
        """Nothing of it runs: told in good order first, killed when that is not heeded."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(timeout=STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                kill_group(process.pid)
                process.wait(timeout=STOP_LIMIT_S)
        self._running.clear()

    def log_tail(self) -> str:
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Hosts that share a Redis. `libvirtd` is that of the first host; None when all of them simulate."""

    server: RedisServer
    hosts: tuple[MortalHost, ...]
    libvirtd: Libvirtd | None
    redis: "redis.Redis"

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.redis, self.keys)

    @property
    def keys(self) -> Keys:
        return Keys(self.hosts[0].settings.key_prefix)

    def start(self) -> None:
        """Every host is up and has reported what it has; one of them has the beat."""
        self._start_nodes()
        self.hosts[0].start(BEAT)
        self._wait_until_up()

    def start_without_beat(self) -> None:
        """Every host is up and has reported what it has; no periodic work comes until somebody starts a beat."""
        self._start_nodes()
        self._wait_until_up()

    def _start_nodes(self) -> None:
        for host in self.hosts:
            host.start(STEPS, CONTROL)

    def _wait_until_up(self) -> None:
        wait_until(self._is_up, f"{len(self.hosts)} hosts to come up")

    def _is_up(self) -> bool:
        for host in self.hosts:
            assert host.ended() == [], f"{host.name}: {host.ended()} ended: {host.log_tail()}"
        up = {host.name for host in Hosts(self.redis, self.keys).list_hosts() if host.up and host.inventory}
        return up == {host.name for host in self.hosts}


@contextmanager
def running_installation(
    drivers: Sequence[str], libvirtd: Libvirtd | None = None, **options: Any
) -> Iterator[Installation]:
    """One host for each driver, all up. Nothing is left when the block ends."""
    with idle_installation(drivers, libvirtd, **options) as installation:
        installation.start()
        yield installation


@contextmanager
def idle_installation(
    drivers: Sequence[str], libvirtd: Libvirtd | None = None, **options: Any
) -> Iterator[Installation]:
    """One host for each driver, nothing started yet, and a Redis for them that keeps what it is told."""
    with ExitStack() as opened:
        server = RedisServer(opened.enter_context(_short_directory()), appendonly="yes")
        opened.callback(server.stop)
        server.start()
        uri = {} if libvirtd is None else {"libvirt_uri": libvirtd.uri}
        common = {"redis_url": server.url(), **QUICK, **ROOMY, **uri, **options}
        hosts = [
            MortalHost(
                Settings(
                    host=f"kvm{number}", driver=driver, state_dir=opened.enter_context(_short_directory()), **common
                )
            )
            for number, driver in enumerate(drivers, 1)
        ]
        for host in hosts:
            opened.callback(host.stop)
        client = open_redis(server.url(), timeout_s=5)
        opened.callback(client.close)
        yield Installation(server=server, hosts=tuple(hosts), libvirtd=libvirtd, redis=client)


@contextmanager
def _short_directory() -> Iterator[Path]:
    """A socket's path has at most 107 bytes (unix(7))."""
    directory = Path(tempfile.mkdtemp(prefix="tvd-"))
    directory.chmod(0o755)  # dnsmasq reads its hosts as nobody
    yield directory
    rmtree(directory)
