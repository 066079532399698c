"""A process that dies anywhere in a plug or an unplug: whoever comes next converges.

The dying process is a real one: it is forked, and `_exit`s before or after its nth call to the kernel, a program, a
file or a daemon, so that no `finally` of it runs and the kernel alone cleans up after it.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from net.fabric import LinuxFabric
from net.filters import firewall
from net.links import sysctl, tun
from net.links.netlink import Netlink
from net.services import dhcp
from net.services.process import Process
from taskvisor.model.plan import VifPlan
from tests.net.hosts import EMPTY, World, read_world
from tests.net.plans import vif

pytestmark = pytest.mark.real

DIED = 77
UNREACHED = 0
CALLS_LIMIT = 200
DANGEROUS: tuple[tuple[Any, str], ...] = (
    *((Netlink, name) for name, _ in inspect.getmembers(Netlink, inspect.isfunction) if not name.startswith("_")),
    (tun, "_make_tap"),
    (tun.NewTap, "ensure_persistent"),
    (sysctl, "ensure_sysctl"),
    (firewall, "run_command"),
    (dhcp, "run_command"),
    (dhcp, "_replace"),
    (dhcp, "send_release"),
    (Process, "send"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "unlink"),
    (Path, "rmdir"),
)

Act = Callable[[LinuxFabric, VifPlan], None]


def plug(fabric: LinuxFabric, nic: VifPlan) -> None:
    fabric.ensure_plugged(nic)


def unplug(fabric: LinuxFabric, nic: VifPlan) -> None:
    fabric.ensure_unplugged(nic)


def test_a_plug_that_died_anywhere_is_finished_by_the_next(state_dir: Path) -> None:
    plugged = _world_after(state_dir, plug)
    for _ in _deaths(state_dir, plug):
        plug(LinuxFabric(state_dir), vif())
        assert read_world(state_dir) == plugged
        unplug(LinuxFabric(state_dir), vif())
        assert read_world(state_dir) == EMPTY


def test_a_plug_that_died_anywhere_is_undone_by_an_unplug(state_dir: Path) -> None:
    for _ in _deaths(state_dir, plug):
        unplug(LinuxFabric(state_dir), vif())
        assert read_world(state_dir) == EMPTY


def test_an_unplug_that_died_anywhere_is_finished_by_the_next(state_dir: Path) -> None:
    for _ in _deaths(state_dir, unplug, before=plug):
        unplug(LinuxFabric(state_dir), vif())
        assert read_world(state_dir) == EMPTY


def test_an_unplug_that_died_anywhere_is_reversed_by_a_plug(state_dir: Path) -> None:
    plugged = _world_after(state_dir, plug)
    for _ in _deaths(state_dir, unplug, before=plug):
        plug(LinuxFabric(state_dir), vif())
        assert read_world(state_dir) == plugged
        unplug(LinuxFabric(state_dir), vif())


def test_an_error_anywhere_in_a_plug_leaves_what_the_next_can_finish(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged = _world_after(state_dir, plug)
    for nth in range(CALLS_LIMIT):
        with monkeypatch.context() as patch:
            counter = _Counter(nth, _raise)
            counter.install(patch.setattr)
            try:
                plug(LinuxFabric(state_dir), vif())
            except InjectedError:
                pass
            else:
                assert nth > 20
                break
        plug(LinuxFabric(state_dir), vif())
        assert read_world(state_dir) == plugged
        unplug(LinuxFabric(state_dir), vif())
        assert read_world(state_dir) == EMPTY
    unplug(LinuxFabric(state_dir), vif())


class InjectedError(Exception):
    """Raised in place of a call's result."""


def _raise() -> None:
    raise InjectedError


def _die() -> None:
    os._exit(DIED)


class _Counter:
    """Wraps every dangerous call; at the nth boundary (before a call, after a call, …) it strikes."""

    def __init__(self, nth: int, strike: Callable[[], None]) -> None:
        self._left = nth
        self._strike = strike

    def install(self, setattr_: Callable[[Any, str, Any], None]) -> None:
        for owner, name in DANGEROUS:
            setattr_(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._boundary()
            result = function(*args, **kwargs)
            self._boundary()
            return result

        return counted

    def _boundary(self) -> None:
        if self._left == 0:
            self._strike()
        self._left -= 1


def _deaths(state_dir: Path, act: Act, *, before: Act | None = None) -> Iterator[int]:
    """The host after each possible death in `act`, which was begun on an empty host (or after `before`)."""
    for nth in range(CALLS_LIMIT):
        if before is not None:
            before(LinuxFabric(state_dir), vif())
        if _exit_code_of(state_dir, act, nth) == UNREACHED:
            assert nth > 20, "hardly anything was wrapped"
            unplug(LinuxFabric(state_dir), vif())
            return
        yield nth
    pytest.fail(f"more than {CALLS_LIMIT} calls")


def _exit_code_of(state_dir: Path, act: Act, nth: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _Counter(nth, _die).install(setattr)
            act(LinuxFabric(state_dir), vif())
            os._exit(UNREACHED)
        finally:
            os._exit(1)  # an exception, which the parent reports
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (DIED, UNREACHED), f"the process failed at call {nth}"
    return code


def _world_after(state_dir: Path, act: Act) -> World:
    act(LinuxFabric(state_dir), vif())
    world = read_world(state_dir)
    unplug(LinuxFabric(state_dir), vif())
    return world
