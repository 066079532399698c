"""A process that dies anywhere in a change of groups or in a plug with groups: whoever comes next ends where it would have.

The dying process is a real one: it is forked, and `_exit`s before or after its nth call to nft, a file or a switch.
"""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.filters import port_filters, transactions
from net.links import sysctl
from net.links.conntrack import Conntrack
from net.links.netlink import Netlink
from taskvisor.model.ids import FloatingId, HostName, SecurityGroupId
from taskvisor.model.network import (
    Direction,
    FloatingAddress,
    IpFamily,
    Member,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from tests.net.hosts import read_world
from tests.net.plans import network, vif

pytestmark = pytest.mark.real

DIED, UNREACHED, CALLS_LIMIT, CALLS_AT_LEAST = 77, 0, 100, 8
GROUP = SecurityGroupId("11111111-0000-4000-8000-000000000001")
OTHER = SecurityGroupId("22222222-0000-4000-8000-000000000002")
NIC = replace(vif(), security_groups=(GROUP,))
DANGEROUS: tuple[tuple[Any, str], ...] = (
    (port_filters, "run_command"),
    (transactions, "run_command"),
    (sysctl, "ensure_sysctl"),
    *((Netlink, name) for name in ("list_links", "ensure_labelled_address", "ensure_address_absent")),
    *((Conntrack, name) for name in ("list_begun_by", "list_begun_to", "ensure_marked", "ensure_absent")),
    (Path, "write_text"),
    (Path, "write_bytes"),
    (Path, "rename"),
    (Path, "unlink"),
)


def test_surroundings_that_died_anywhere_are_finished_by_the_next(state_dir: Path) -> None:
    fabric = LinuxFabric(state_dir)
    fabric.ensure_plugged(NIC)
    with IPRoute() as ipr:
        ipr.link("add", ifname="uplink", kind="bridge")
        index = ipr.link_lookup(ifname="uplink")[0]
        ipr.link("set", index=index, state="up")
        ipr.addr("add", index=index, address="192.0.2.1", prefixlen=24)
    for before, after in ((_around(GROUP), _around(OTHER)), (_around(OTHER), _around(GROUP))):
        fabric.ensure_surroundings(after)
        wanted = read_world(state_dir)
        tell_before = functools.partial(fabric.ensure_surroundings, before)
        tell_after = functools.partial(LinuxFabric(state_dir).ensure_surroundings, after)
        for _ in _deaths(tell_after, tell_before):
            LinuxFabric(state_dir).ensure_surroundings(after)
            assert read_world(state_dir) == wanted
    fabric.ensure_unplugged(NIC)
    with IPRoute() as ipr:
        ipr.link("del", index=index)


def _around(group: SecurityGroupId) -> Surroundings:
    """The port in one group, whose only rule names that very group."""
    rule = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4, remote_group=group)
    member = Member(
        port_id=NIC.port_id,
        host=HostName("here"),
        mac=NIC.mac,
        addresses=(NIC.address,),
        security_groups=(group,),
    )
    return Surroundings(
        network=network(),
        members=(member,),
        groups=(SecurityGroup(id=group, name="all", rules=(rule,)),),
        group_addresses={group: (NIC.address, "10.9.0.77")},
        floating=FLOATING if group == OTHER else (),
    )


FLOATING = (FloatingAddress(id=FloatingId("f"), address="192.0.2.77", port_id=NIC.port_id),)


def _deaths(act: Callable[[], None], before: Callable[[], None]) -> Iterator[int]:
    for nth in range(CALLS_LIMIT):
        before()
        if _exit_code_of(act, nth) == UNREACHED:
            assert nth > CALLS_AT_LEAST, "hardly anything was wrapped"
            return
        yield nth
    pytest.fail(f"more than {CALLS_LIMIT} calls")


def _exit_code_of(act: Callable[[], None], nth: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _wrap(nth)
            act()
            os._exit(UNREACHED)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (DIED, UNREACHED), f"the process failed at call {nth}"
    return code


def _wrap(nth: int) -> None:
    left = [nth]

    def boundary() -> None:
        if left[0] == 0:
            os._exit(DIED)
        left[0] -= 1

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            boundary()
            result = function(*args, **kwargs)
            boundary()
            return result

        return counted

    for owner, name in DANGEROUS:
        setattr(owner, name, wrapped(getattr(owner, name)))
