"""How something dies, and how it comes back: one function a kind of death. Which one strikes when is not decided here."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from random import Random

from taskvisor.cli.nodes import BEAT, CONTROL, STEPS
from tests.deaths.hosts import Installation, MortalHost
from tests.system.nodes import wait_until

PAUSE_S = 1.5
"""Who is dead stays dead for up to so long."""
MESSAGES_LIMIT_S = 20.0


class Death(StrEnum):
    """What dies."""

    STEPS_CHILD = "steps-child"
    CONTROL_CHILD = "control-child"
    STEPS_NODE = "steps-node"
    CONTROL_NODE = "control-node"
    BOTH_NODES = "both-nodes"
    BEAT = "beat"
    LIBVIRTD = "libvirtd"
    REDIS_KILLED = "redis-killed"
    REDIS_RESTARTED = "redis-restarted"
    STEPS_QUEUE = "steps-queue-deleted"
    COMPUTE_QUEUE = "compute-queue-deleted"


def strike(death: Death, installation: Installation, chance: Random) -> bool:
    """It has died, and what replaces it has been started. False when there was nothing to kill: a queue that stayed empty."""
    return _BLOWS[death](installation, chance)


def pause(seconds: float) -> None:
    """The state that is wanted is that so much time has passed."""
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= over, f"{seconds} s to pass", limit_s=seconds + 30)


def _child_of(node: str) -> Callable[[Installation, Random], bool]:
    def blow(installation: Installation, chance: Random) -> bool:
        pool = chance.choice(installation.hosts).pool(node)
        if not pool:
            return False  # the node has only just been started
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pool), signal.SIGKILL)
        return True

    return blow


def _nodes(*names: str) -> Callable[[Installation, Random], bool]:
    def blow(installation: Installation, chance: Random) -> bool:
        host = chance.choice(installation.hosts)
        _replace(host, names, chance)
        return True

    return blow


def _replace(host: MortalHost, names: tuple[str, ...], chance: Random) -> None:
    for name in names:
        host.kill(name)
    pause(chance.uniform(0, PAUSE_S))
    host.start(*names)


def _beat(installation: Installation, chance: Random) -> bool:
    _replace(installation.hosts[0], (BEAT,), chance)
    return True


def _libvirtd(installation: Installation, chance: Random) -> bool:
    assert installation.libvirtd is not None, "only hosts with libvirt lose it"
    os.kill(installation.libvirtd.pid, signal.SIGKILL)
    pause(chance.uniform(0, PAUSE_S))
    installation.libvirtd.start()
    return True


def _redis_killed(installation: Installation, chance: Random) -> bool:
    installation.server.kill()
    pause(chance.uniform(0, PAUSE_S))
    installation.server.start()
    return True


def _redis_restarted(installation: Installation, chance: Random) -> bool:
    installation.server.stop()
    pause(chance.uniform(0, PAUSE_S))
    installation.server.start()
    return True


def _queue(name: str) -> Callable[[Installation, Random], bool]:
    def blow(installation: Installation, chance: Random) -> bool:
        queue = name.format(host=chance.choice(installation.hosts).name)
        deadline = time.monotonic() + MESSAGES_LIMIT_S
        while time.monotonic() < deadline:
            if installation.redis.delete(queue):
                return True  # Redis has no empty list: there were messages in it
            time.sleep(0.001)
        return False

    return blow


_BLOWS: Mapping[Death, Callable[[Installation, Random], bool]] = {
    Death.STEPS_CHILD: _child_of(STEPS),
    Death.CONTROL_CHILD: _child_of(CONTROL),
    Death.STEPS_NODE: _nodes(STEPS),
    Death.CONTROL_NODE: _nodes(CONTROL),
    Death.BOTH_NODES: _nodes(STEPS, CONTROL),
    Death.BEAT: _beat,
    Death.LIBVIRTD: _libvirtd,
    Death.REDIS_KILLED: _redis_killed,
    Death.REDIS_RESTARTED: _redis_restarted,
    Death.STEPS_QUEUE: _queue("host.{host}"),
    Death.COMPUTE_QUEUE: _queue("compute"),
}
