"""A host that never comes back keeps no request: what it had taken and not begun is answered by the others."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from celery import Celery

from taskvisor.cli.nodes import BEAT, CONTROL, STEPS
from taskvisor.model.states import VmState
from taskvisor.model.urls import celery_url_for
from tests.deaths.conftest import SURVIVED
from tests.deaths.hosts import Installation, MortalHost, idle_installation
from tests.system.nodes import wait_until

HOST_DOWN_S, SWEEP_S = 2.0, 2.0
REQUESTS = 6
BUILD = {"image": "simulated://debian?virtual_gib=1", "flavor": {"vcpus": 1, "memory_mib": 16, "disk_gib": 1}}

pytestmark = pytest.mark.real


@pytest.fixture
def two_hosts() -> Iterator[Installation]:
    """The second takes requests, but no guests: those of a lost host wait for it."""
    with idle_installation(["simulated", "simulated"], host_down_s=HOST_DOWN_S, sweep_s=SWEEP_S) as installation:
        installation.start_without_beat()
        installation.redis.hset(installation.keys.host(installation.hosts[1].name), "disabled", "about to be lost")
        yield installation


def test_requests_in_the_hands_of_a_lost_host_are_answered_by_another(
    two_hosts: Installation, record_property: Callable[[str, object], None]
) -> None:
    lost, client = two_hosts.hosts[1], two_hosts.redis
    wait_until(lambda: not _under_way(two_hosts, lost), "the second host to have nothing to do")
    for child in lost.pool(CONTROL):
        os.kill(child, signal.SIGSTOP)  # what it has taken, it does not begin
    wanted = Counter(f"guest-{number}" for number in range(REQUESTS))
    with closing(Celery("producer", broker=celery_url_for(two_hosts.server.url()), set_as_current=False)) as celery:
        in_hand = f"compute.inflight.{lost.name}"
        with two_hosts.hosts[0].held(CONTROL):  # else it may have taken them all before the second has taken one
            for name in wanted:
                celery.send_task("instance.build", kwargs={"name": name, **BUILD}, queue="compute")
            wait_until(lambda: client.llen(in_hand), "the second host to take a request")
    wait_until(lambda: not client.exists("compute"), "all requests to be taken")
    kept = client.llen(in_hand)

    lost.kill(STEPS)
    lost.kill(CONTROL)
    two_hosts.hosts[0].start(BEAT)  # only now: a tick in the hand that a request was to be in would keep it out
    died_at = time.monotonic()

    def built() -> Counter[str]:
        instances = two_hosts.catalog.list_instances()
        return Counter(instance.name for instance in instances if instance.vm_state is VmState.ACTIVE)

    wait_until(lambda: built() == wanted, "every request to be answered")
    took_s, limit_s = time.monotonic() - died_at, HOST_DOWN_S + 2 * SWEEP_S
    record_property(
        SURVIVED, f"{kept} requests of a lost host answered {took_s:.1f} s after its death (aim {limit_s:g} s)"
    )
    assert not client.exists(in_hand)


def _under_way(installation: Installation, host: MortalHost) -> int:
    """How many lists there are of what the host's control node is to do: waiting for it, or in its hand and not settled.

    In one look: between two ticks of its start there is nothing in its hand, and the next one would keep a request out.
    """
    control = f"host.{host.name}.control"
    return int(installation.redis.exists(control, f"{control}.inflight.{host.name}", f"compute.inflight.{host.name}"))
