"""The programs of a host and of a whole installation, as command lines. Starts nothing."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from taskvisor.cli.flower_options import flower_environment_from
from taskvisor.cli.processes import WARM_STOP, Program
from taskvisor.model.queues import COMPUTE_QUEUE, control_queue, steps_queue
from taskvisor.model.records import Instance
from taskvisor.settings import Settings, environment_for

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED_IN = ("site-packages", "dist-packages")
STEPS, CONTROL, REQUESTS, BEAT, FLOWER, REDIS = (
    "the steps node",
    "the control node",
    "the node for requests",
    "beat",
    "Flower",
    "Redis",
)
FLOWER_COLUMNS = "name,kwargs,state,result,received,runtime,worker,uuid"
"""What a task does to which instance comes first, and what came of it: Flower's default lacks both. The id leads to its page."""
FLOWER_CONFIG = CHECKOUT / "workers" / "flower_config.py"
WEBHOOKS = "the sender of webhooks"
AS_ROOT_IS_MEANT = "ignore::UserWarning:celery.platforms"
"""Celery warns of root at each start. Who makes links and guests is root, and takes JSON only, in which nothing is run."""
SOCKET_PATH_LIMIT_BYTES = 107
"""unix(7): sun_path, less its ending zero."""


def nodes_of(settings: Settings) -> tuple[Program, Program]:
    """The two nodes of this host: steps do long work, control takes requests and runs ticks."""
    host = settings.host
    return (
        _node(settings, STEPS, f"steps@{host}", steps_queue(host), settings.step_concurrency),
        _node(
            settings, CONTROL, f"control@{host}", f"{control_queue(host)},{COMPUTE_QUEUE}", settings.control_concurrency
        ),
    )


def requests_node_of(settings: Settings) -> Program:
    """Takes requests, and what is done once for the fleet, on a machine that is no host. Its name is TASKVISOR_HOST."""
    return _node(settings, REQUESTS, f"requests@{settings.host}", COMPUTE_QUEUE, settings.control_concurrency)


def beat_of(settings: Settings) -> Program:
    """Sends the periodic tasks. More than one may run: the schedule is locked."""
    return _lean_celery(settings, BEAT, "beat")


def flower_of(settings: Settings, port: int) -> Program:
    """The window. UsageError when FLOWER_BASIC_AUTH is not what Flower could mean by it."""
    words = (
        f"--address={settings.flower_address}",
        f"--port={port}",
        f"--tasks_columns={FLOWER_COLUMNS}",
        f"--conf={FLOWER_CONFIG}",
    )
    program = _celery(settings, FLOWER, "flower", *words)
    return replace(program, environment=flower_environment_from(program.environment))


def webhooks_of(settings: Settings) -> Program:
    """Posts events to the configured URLs. More than one may run: of each URL one has the turn."""
    return _python(settings, WEBHOOKS, "-m", "taskvisor.cli", "webhooks", "run")


def preflight_of(settings: Settings, form: str = "problems") -> Program:
    """Prints what this machine lacks, a sentence a line; in the form `json` every check and what it found."""
    return _python(settings, "preflight", "-m", "workers.preflight", form)


def adoption_of(settings: Settings) -> Program:
    """Makes this machine the host that the settings say, and prints so; or why it can't be."""
    return _python(settings, "adoption", "-m", "workers.adopt_identity")


def console_of(settings: Settings, instance: Instance, *words: str) -> Program:
    """Lets the person of this terminal attend a guest of this host; `force` takes the console from whoever has it."""
    program = _python(
        settings, "the console", "-m", "virt.serial_console", settings.libvirt_uri, instance.id, instance.name, *words
    )
    return replace(program, orphaned=signal.SIGTERM)


def screen_of(settings: Settings, instance: Instance) -> Program:
    """Prints where the screen of a guest of this host listens, as JSON."""
    return _python(settings, "the look at the screen", "-m", "virt.screen_look", settings.libvirt_uri, instance.id)


def redis_of(settings: Settings) -> Program:
    """A Redis of our own: on a socket, every write on disk within a second, nothing ever evicted."""
    directory = redis_directory(settings)
    options = {
        "port": "0",
        "unixsocket": str(directory / "redis.sock"),
        "unixsocketperm": "700",
        "dir": str(directory),
        "pidfile": str(directory / "redis.pid"),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(directory / "redis.log"),
    }
    argv = ["redis-server", *(word for name, value in options.items() for word in (f"--{name}", value))]
    environment = environment_for(settings)
    return Program(name=REDIS, argv=tuple(argv), environment=environment, directory=directory, orphaned=signal.SIGTERM)


def redis_directory(settings: Settings) -> Path:
    return settings.state_dir / "redis"


def own_redis_url(settings: Settings) -> str:
    """Where the Redis of `taskvisor up` answers."""
    return f"unix://{redis_directory(settings) / 'redis.sock'}?db=0"


def _node(settings: Settings, name: str, node: str, queues: str, concurrency: int) -> Program:
    words = ("worker", "--without-gossip", "--without-mingle", "-n", node, "-Q", queues, "-c", str(concurrency))
    return replace(_lean_celery(settings, name, *words), stop=WARM_STOP)


def _lean_celery(settings: Settings, name: str, *words: str) -> Program:
    """Without what the `celery` program loads for its other commands."""
    return _python(settings, name, "-W", AS_ROOT_IS_MEANT, "-m", "workers", *words)


def _celery(settings: Settings, name: str, *words: str) -> Program:
    return _python(settings, name, "-W", AS_ROOT_IS_MEANT, "-m", "celery", "--quiet", "-A", "workers.app", *words)


def _python(settings: Settings, name: str, *words: str) -> Program:
    """Runs in the state directory: Python and Celery import from where they run, and the caller's directory may hold anything."""
    environment = environment_for(settings)
    if CHECKOUT.name not in INSTALLED_IN:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHECKOUT), environment.get("PYTHONPATH"))))
    return Program(name=name, argv=(sys.executable, *words), environment=environment, directory=settings.state_dir)
