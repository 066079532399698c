"""`taskvisor up`: all of Taskvisor on this machine, for a first look or a single host: Redis, both nodes, beat, Flower.

Started in the order in which they need each other, and stopped the other way round.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from taskvisor.cli import nodes
from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.processes import run_briefly
from taskvisor.cli.rebuild import close_store
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import framed, out, report, say_error
from taskvisor.cli.supervisor import Attended, Supervisor, open_supervisor
from taskvisor.cli.worker import ensure_directory
from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.records import Host
from taskvisor.settings import Settings

REDIS_LIMIT_S = 30.0
PREFLIGHT_LIMIT_S = 90.0
HOST_LIMIT_S = 60.0
FLOWER_LIMIT_S = 20.0
DEATHS_LIMIT = 3
"""A node that has ended so often before the host was up will not come up."""
ENVIRONMENT_FILE = "taskvisor.env"


class NotUp(TaskvisorError):
    """Something did not start; the message says what, and where to look."""


class AskedToStop(Exception):
    """A signal came while things were being started."""


def up(
    flower: Annotated[bool, typer.Option("--flower/--no-flower", help="Whether to run Flower, the window.")] = True,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where instances, images and Redis keep what they have.")
    ] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="Redis has lost its records: let requests wait for `taskvisor rebuild`.")
    ] = False,
) -> None:
    """Run all of Taskvisor on this machine, until SIGTERM or ctrl-C."""
    settings = settings_for(settings_or_usage_error(), state_dir)
    if flower:
        nodes.flower_of(settings, settings.flower_port)  # minds now what it would mind when all else is up
    ensure_directory(settings.state_dir)
    with only_one(settings.state_dir), open_supervisor(report) as supervisor:
        code = ExitCode.DONE
        try:
            start_everything(supervisor, settings, with_flower=flower, closed=closed)
            supervisor.attend()
        except AskedToStop:
            pass
        except NotUp as problem:
            say_error(str(problem))
            code = ExitCode.FAILED
        stop_everything(supervisor)
        killed = supervisor.killed
    report("stopped")
    raise typer.Exit(ExitCode.FAILED if killed else code)


def settings_for(settings: Settings, state_dir: Path | None) -> Settings:
    """The settings as all parts shall have them: with a Redis of our own unless one is configured."""
    directory = (state_dir or settings.state_dir).absolute()
    settings = settings.model_copy(update={"state_dir": directory})
    if "redis_url" in settings.model_fields_set:
        return settings
    url = nodes.own_redis_url(settings)
    path = url.removeprefix("unix://").partition("?")[0]
    if len(os.fsencode(path)) > nodes.SOCKET_PATH_LIMIT_BYTES:
        raise UsageError(
            f"state directory {directory}: the path of Redis' socket in it would be longer than"
            f" {nodes.SOCKET_PATH_LIMIT_BYTES} bytes; choose a shorter one"
        )
    return settings.model_copy(update={"redis_url": url})


@contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """No other `taskvisor up` runs over this directory; the kernel gives the lock back when its holder dies."""
    with (state_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"taskvisor up runs for {state_dir} already (process {file.read(32).strip() or '?'})"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def start_everything(supervisor: Supervisor, settings: Settings, *, with_flower: bool, closed: bool) -> None:
    """All is up, and where it is has been told; `closed`: on a store that lets requests wait.

    NotUp when something is not; AskedToStop when a signal came first.
    """
    began = time.monotonic()
    own_redis = settings.redis_url == nodes.own_redis_url(settings)
    if own_redis:
        start_redis(supervisor, settings)
    if closed:
        close_store(settings)
    check_machine(supervisor, settings)
    for node in nodes.nodes_of(settings):
        supervisor.start(node)
    supervisor.start(nodes.beat_of(settings))
    if settings.webhook_urls:
        supervisor.start(nodes.webhooks_of(settings))
    host = wait_for_host(supervisor, settings)
    environment_file = write_environment(settings)
    flower_url = start_flower(supervisor, settings) if with_flower else None
    show_panel(settings, host, flower_url, environment_file)
    report(f"everything is up after {time.monotonic() - began:.1f} s; stop it with ctrl-C")


def start_redis(supervisor: Supervisor, settings: Settings) -> None:
    """A Redis of ours answers."""
    directory = nodes.redis_directory(settings)
    directory.mkdir(mode=0o700, exist_ok=True)
    if redis_answers(settings):
        report(f"a Redis answers at {settings.redis_url} already; it is used, and left running at the end")
        return
    supervisor.start(nodes.redis_of(settings))
    failed = dies_too_often(supervisor, nodes.REDIS)
    _await(supervisor, lambda: redis_answers(settings) or failed(), REDIS_LIMIT_S)
    if not redis_answers(settings):
        raise NotUp(
            f"Redis does not answer at {settings.redis_url}; what it said is above, its data are in {directory}"
        )


def redis_answers(settings: Settings) -> bool:
    try:
        with open_records(settings) as records:
            records.hosts.list_hosts()
    except TaskvisorError as problem:
        return not isinstance(problem, CannotAsk)  # what it says instead is for the preflight to judge
    return True


def check_machine(supervisor: Supervisor, settings: Settings) -> None:
    """This machine has what guests need. NotUp names each thing that it lacks."""
    try:
        code, problems = run_briefly(
            nodes.preflight_of(settings), supervisor.signals.inherited, limit_s=PREFLIGHT_LIMIT_S
        )
    except TimeoutError as error:
        raise NotUp(f"this machine could not be checked: {error}") from error
    if code != 0:
        for problem in problems.splitlines():
            report(f"- {problem}")
        count = len(problems.splitlines())
        raise NotUp(
            f"this machine is not ready ({count} {'problem' if count == 1 else 'problems'}); nothing was started"
        )


def wait_for_host(supervisor: Supervisor, settings: Settings) -> Host:
    """This host, alive and with its inventory reported."""
    found: list[Host] = []
    failed = [dies_too_often(supervisor, name) for name in (nodes.STEPS, nodes.CONTROL)]

    def is_up() -> bool:
        found[:] = [host for host in _list_hosts(settings) if host.name == settings.host and host.up and host.inventory]
        return bool(found) or any(fails() for fails in failed)

    _await(supervisor, is_up, HOST_LIMIT_S)
    if not found:
        raise NotUp(f"host {settings.host} did not come up within {HOST_LIMIT_S:g} s; what its nodes said is above")
    return found[0]


def _list_hosts(settings: Settings) -> tuple[Host, ...]:
    try:
        with open_records(settings) as records:
            return records.hosts.list_hosts()
    except TaskvisorError:
        return ()


def dies_too_often(supervisor: Supervisor, name: str) -> Callable[[], bool]:
    return lambda: supervisor.deaths_of(name) >= DEATHS_LIMIT


def start_flower(supervisor: Supervisor, settings: Settings) -> str:
    """Flower's address. One that is slow to answer is said to be so: it keeps nobody from working.

    After the nodes: Flower asks them at once what they are, and complains of each that is not there yet.
    """
    port = free_port(settings.flower_address, settings.flower_port)
    supervisor.start(nodes.flower_of(settings, port))
    url = f"http://{settings.flower_address}:{port}/"
    attended = supervisor.attend(lambda: _listens(settings.flower_address, port), limit_s=FLOWER_LIMIT_S)
    if attended is Attended.ASKED_TO_STOP:
        raise AskedToStop
    return url if attended is Attended.MET else f"{url} (does not answer yet)"


def free_port(address: str, wanted: int) -> int:
    """The port that is wanted when it is free, else one that is."""
    for port in (wanted, 0):
        try:
            with socket.create_server((address, port)) as server:
                chosen = int(server.getsockname()[1])
        except OSError as error:
            if port == 0:
                raise NotUp(
                    f"Flower can't listen on {address}: {error.strerror}; see TASKVISOR_FLOWER_ADDRESS"
                ) from error
            continue
        if chosen != wanted:
            report(f"Flower gets port {chosen}" + (f": {wanted} is taken" if wanted else ""))
        return chosen
    raise AssertionError("a port was found or an error raised")


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False


def write_environment(settings: Settings) -> Path:
    """A file by which other terminals find what runs here: `export TASKVISOR_ENV_FILE=…`."""
    path = settings.state_dir / ENVIRONMENT_FILE
    fields = {
        "REDIS_URL": settings.redis_url,
        "KEY_PREFIX": settings.key_prefix,
        "STATE_DIR": settings.state_dir,
        "HOST": settings.host,
        "DRIVER": settings.driver,
        "LIBVIRT_URI": settings.libvirt_uri,
    }
    text = "".join(f"TASKVISOR_{name}='{value}'\n" for name, value in fields.items())
    path.touch(mode=0o600)  # a Redis URL may hold a password
    path.write_text(text)
    return path


def show_panel(settings: Settings, host: Host, flower_url: str | None, environment_file: Path) -> None:
    """What runs, where it is, and how to launch a VM."""
    inventory = host.inventory
    assert inventory is not None  # noqa: S101 - wait_for_host has seen it
    limits = inventory.limits
    size = f"{limits.vcpus} CPUs, {limits.memory_mib} MiB, {limits.disk_gib} GiB to claim"
    image = "simulated://cirros" if settings.driver == "simulated" else "/path/to/image.qcow2"
    fields = [
        ("Host", f"{host.name} is up: {size}"),
        ("Driver", f"{settings.driver}, {inventory.virt_type.value} on {inventory.arch}"),
        ("Redis", settings.redis_url),
        ("Flower", flower_url or "not started"),
        ("Launch", f"export TASKVISOR_ENV_FILE={environment_file}"),
        ("", f"taskvisor launch {image} --name vm1"),
    ]
    out().print(framed(fields, "Taskvisor"))


def stop_everything(supervisor: Supervisor) -> None:
    """All that was started has ended: the window, the clock, the nodes, and Redis last."""
    report(
        "stopping: running steps are finished first; a second signal cuts them off, and they resume at the next start"
    )
    for names in ((nodes.FLOWER, nodes.BEAT, nodes.WEBHOOKS), (nodes.STEPS, nodes.CONTROL), (nodes.REDIS,)):
        supervisor.stop(names)


def _await(supervisor: Supervisor, condition: Callable[[], bool], limit_s: float) -> None:
    if supervisor.attend(condition, limit_s=limit_s) is Attended.ASKED_TO_STOP:
        raise AskedToStop
