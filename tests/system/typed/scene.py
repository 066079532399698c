"""The machines of a small fleet with simulated guests, and what is typed at them: each command is a process of its own.

Redis, workers and beat are real, and started by the very commands. Only `ssh` is a program of the test, which says how it was
called. Must never know what any command is to say.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taskvisor.state.catalog import Catalog
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from tests.cli.screens import on_screen
from tests.fixtures.machine import ROOT, run_or_fail
from tests.fixtures.redis_servers import RedisServer
from tests.system.nodes import PREFIX, wait_until
from tests.system.typed.acts import KNOWN, Act, Between, Chapter, Part, Way

LIMIT_S = 240.0
AT_ONCE = 4
LINE_COLUMNS = 200
KEY_TEXT = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} me\n"
QUICK = {
    "TASKVISOR_SWEEP_S": "2",
    "TASKVISOR_MONITOR_S": "4",
    "TASKVISOR_ORPHANS_S": "4",
    "TASKVISOR_USAGE_AUDIT_S": "4",
    "TASKVISOR_RECORDS_S": "4",
    "TASKVISOR_STEP_CONCURRENCY": "1",
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What came of a command. The text has standard output first, then standard error, and no two blanks in a row."""

    code: int
    text: str


class Scene:
    """A directory for everything, one below it for each machine; what runs there, and what was learned."""

    def __init__(self, directory: Path, redis_server: RedisServer) -> None:
        self.directory = directory
        self.checkout = directory / "src"
        self.server = redis_server
        self.redis = open_redis(redis_server.url(), timeout_s=5)
        self.keys = Keys(PREFIX)
        self.catalog = Catalog(self.redis, self.keys)
        self.hosts = Hosts(self.redis, self.keys)
        self.known: dict[str, str] = {"root": str(directory), "src": str(self.checkout)}
        self._staying: dict[str, subprocess.Popen[bytes]] = {}
        self._numbers = itertools.count(1)
        self._set_up()

    def _set_up(self) -> None:
        programs = self.directory / "bin"
        programs.mkdir()
        (programs / "ssh").write_text('#!/bin/sh\necho "ssh was told: $*"\n')
        (programs / "ssh").chmod(0o755)
        (self.checkout / ".ssh").mkdir(parents=True)
        (self.checkout / ".ssh/id_ed25519.pub").write_text(KEY_TEXT)
        guest = self.checkout / ".cache/guest/guest.qcow2"
        guest.parent.mkdir(parents=True)
        run_or_fail(["qemu-img", "create", "-q", "-f", "qcow2", guest, "1G"], limit_s=LIMIT_S)

    def state_dir(self, machine: str) -> Path:
        """Of a machine; it is there."""
        path = self.directory / machine
        path.mkdir(exist_ok=True)
        return path

    def environment(self, machine: str, settings: Mapping[str, str]) -> dict[str, str]:
        """Of a shell on that machine; a setting that is empty is not set there."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKVISOR_")}
        usual = {
            **inherited,
            **QUICK,
            "TASKVISOR_REDIS_URL": self.server.url(),
            "TASKVISOR_ALLOW_VOLATILE_REDIS": "true",  # what it knows need not outlive the test
            "TASKVISOR_DRIVER": "simulated",
            "TASKVISOR_VOLUME_ROOTS": "file:///srv/volumes",
            "TASKVISOR_FLOWER_PORT": "0",
            "TASKVISOR_HOST": machine,
            "TASKVISOR_STATE_DIR": str(self.state_dir(machine)),
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.checkout),
            "COLUMNS": str(LINE_COLUMNS),
            "PYTHONPATH": str(ROOT),
        }
        told = {name: self.filled(value) for name, value in settings.items()}
        return {name: value for name, value in (usual | told).items() if value}

    def filled(self, text: str) -> str:
        """The text, with what was learned in place of `<name>`. KeyError for what nobody has learned."""
        return KNOWN.sub(lambda found: self.known[found[1]], text)

    def play(self, chapter: Chapter) -> None:
        """Each part in turn; AssertionError at the first act that comes to something else than is told of it."""
        for part in chapter:
            self._do(part)

    def _do(self, part: Part) -> None:
        if isinstance(part, Between):
            part.do(self)
        elif isinstance(part, Act):
            self.perform(part)
        else:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self.perform, part))

    def perform(self, act: Act) -> None:
        """It is typed, says what it is to say, and ends as it is to end; what is to be kept of it is known afterwards."""
        said = _WAYS[act.way](self, act)
        lacking = self.lacking(act, said.text)
        assert (said.code, lacking) == (act.code, []), f"{act}\nended with {said.code}:\n{said.text}"
        assert "Traceback" not in said.text, f"{act}:\n{said.text}"
        for name, pattern in act.keeps.items():
            found = re.search(pattern, said.text, re.M)
            assert found, f"{act} says nothing like {pattern}:\n{said.text}"
            self.known[name] = found[1]

    def lacking(self, act: Act, text: str) -> list[str]:
        """The patterns that are not in the text."""
        return [pattern for pattern in map(self.filled, act.says) if not re.search(pattern, text, re.M)]

    @property
    def staying(self) -> tuple[str, ...]:
        """The names of the services that run."""
        return tuple(self._staying)

    def pid(self, name: str) -> int:
        """Of a service that runs."""
        return self._staying[name].pid

    def end(self, *names: str) -> None:
        """These services are stopped as a service manager does it, and have ended well."""
        ending = {name: self._staying.pop(name) for name in names}
        for name, process in ending.items():
            assert process.poll() is None, f"{name} has ended with {process.returncode}:\n{self.said_by(name)}"
            process.send_signal(signal.SIGTERM)
        for name, process in ending.items():
            assert process.wait(LIMIT_S) == 0, self.said_by(name)

    def kill_all(self) -> None:
        """Nothing that was started runs any more, however it fared."""
        for process in self._staying.values():
            process.terminate()  # what it started ends with it
        for process in self._staying.values():
            try:
                process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(LIMIT_S)
        self._staying.clear()

    def said_by(self, name: str) -> str:
        """What a process has said so far."""
        return _squeezed((self.directory / f"{name}.log").read_text(errors="replace"))

    def is_up(self, host: str) -> bool:
        """It is heard of, and has told what it has."""
        return any(one.name == host and one.up and one.inventory for one in self.hosts.list_hosts())

    def run(self, act: Act) -> Said:
        """The command, to its end."""
        done = subprocess.run(
            self.argv(act),
            env=self.environment(self.filled(act.at), act.settings),
            cwd=self.checkout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return Said(code=done.returncode, text=_squeezed(done.stdout + done.stderr))

    def run_again_and_again(self, act: Act) -> Said:
        """The command, until it says what is awaited or time is up."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            said = self.run(act)
            if (said.code == act.code and not self.lacking(act, said.text)) or time.monotonic() > deadline:
                return said
            time.sleep(0.2)

    def run_on_terminal(self, act: Act) -> Said:
        """The command on a terminal, to its end."""
        words = [self.filled(word) for word in act.typed_words]
        environment = self.environment(self.filled(act.at), act.settings)
        with on_screen(environment, *words, columns=LINE_COLUMNS, rows=50) as shown:
            if act.asks:
                shown.wait_for(lambda text: act.asks in text)
                shown.type(act.keys)
            text = shown.wait_for(lambda text: not self.lacking(act, _squeezed(text)))
            if not act.asks:
                shown.type(act.keys)
            return Said(code=shown.wait(), text=_squeezed(text))

    def run_until_ctrl_c(self, act: Act) -> Said:
        """The command, until it has said what is awaited; then ctrl-C."""
        log = f"follows-{next(self._numbers)}"
        process = self._start(act, log)
        try:
            deadline = time.monotonic() + LIMIT_S
            while self.lacking(act, self.said_by(log)) and time.monotonic() < deadline and process.poll() is None:
                if act.meanwhile is not None:
                    self.perform(act.meanwhile)
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            return Said(code=process.wait(LIMIT_S), text=self.said_by(log))
        finally:
            process.kill()
            process.wait()

    def start(self, act: Act) -> Said:
        """The command runs, and has said what is awaited. What it ends with is told by `end`."""
        process = self._staying[act.name] = self._start(act, act.name)

        def is_ready() -> bool:
            assert process.poll() is None, f"{act} has ended with {process.returncode}:\n{self.said_by(act.name)}"
            return not self.lacking(act, self.said_by(act.name))

        wait_until(is_ready, f"{act} to say {act.says}: see {self.directory / act.name}.log", LIMIT_S)
        return Said(code=0, text=self.said_by(act.name))

    def argv(self, act: Act) -> list[str]:
        return [sys.executable, "-m", "taskvisor.cli", *map(self.filled, act.typed_words)]

    def _start(self, act: Act, log: str) -> "subprocess.Popen[bytes]":
        with (self.directory / f"{log}.log").open("wb") as file:
            return subprocess.Popen(
                self.argv(act),
                env=self.environment(self.filled(act.at), act.settings),
                cwd=self.checkout,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )


_WAYS: Mapping[Way, Callable[[Scene, Act], Said]] = {
    Way.BY_ITSELF: Scene.run,
    Way.AGAIN: Scene.run_again_and_again,
    Way.ON_A_TERMINAL: Scene.run_on_terminal,
    Way.BY_CTRL_C: Scene.run_until_ctrl_c,
    Way.STAYS: Scene.start,
}


@contextmanager
def open_scene() -> Iterator[Scene]:
    """A Redis that nothing is in, and no process yet; nothing is left when the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="tvt-typed-"))  # short: the paths of sockets end at 107 bytes
    server = RedisServer(directory / "redis")
    server.directory.mkdir()
    server.start()
    try:
        scene = Scene(directory, server)
        try:
            yield scene
        finally:
            scene.kill_all()
            scene.redis.close()
    finally:
        server.stop()
        shutil.rmtree(directory)


def _squeezed(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.splitlines())
