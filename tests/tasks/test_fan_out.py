"""Periodic work of hosts: one message a live host, spread in time, and gone when the next is due."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from taskvisor.model.ids import HostName
from tests.support.fleet import Fleet
from tests.tasks.edges import open_edge_app

PERIOD_S = 40.0


@pytest.fixture
def hosts(redis_url: str, memory_dir: Path) -> Iterator[Fleet]:
    """Six hosts, of which h6 is silent."""
    fleet = Fleet(redis_url, memory_dir, hosts=tuple(f"h{number}" for number in range(1, 7)))
    fleet.store.hosts.note_gone(HostName("h6"), "first")
    yield fleet
    fleet.close()


@pytest.fixture
def app(redis_url: str, hosts: Fleet) -> Iterator[Celery]:
    with open_edge_app(redis_url, hosts) as opened:
        yield opened


def sent_to(fleet: Fleet, host: str) -> list[dict[str, Any]]:
    """The headers of the messages in the host's control queue."""
    return [json.loads(raw)["headers"] for raw in fleet.client.lrange(f"host.{host}.control", 0, -1)]


def seconds_from(start: float, when: str) -> float:
    return datetime.fromisoformat(when).timestamp() - start


def test_each_live_host_is_sent_one_and_a_silent_one_none(app: Celery, hosts: Fleet) -> None:
    app.tasks["host.fan_out"]("host.track", PERIOD_S)

    told = {name: [headers["task"] for headers in sent_to(hosts, name)] for name in hosts.hosts}

    assert told == {**{f"h{number}": ["host.track"] for number in range(1, 6)}, "h6": []}


def test_it_is_gone_when_the_next_is_due_so_that_none_pile_up(app: Celery, hosts: Fleet) -> None:
    before = time.time()
    app.tasks["host.fan_out"]("host.track", PERIOD_S)
    after = time.time()

    expiries = [headers["expires"] for name in ("h1", "h5") for headers in sent_to(hosts, name)]

    assert all(before - after <= seconds_from(before, when) - PERIOD_S <= after - before + 1 for when in expiries)


def test_hosts_do_not_move_in_step(app: Celery, hosts: Fleet) -> None:
    before = time.time()
    app.tasks["host.fan_out"]("host.track", PERIOD_S)
    after = time.time()

    delays_s = [seconds_from(before, headers["eta"]) for name in hosts.hosts for headers in sent_to(hosts, name)]

    assert len({round(delay_s) for delay_s in delays_s}) > 1
    assert all(-1 <= delay_s <= PERIOD_S / 4 + after - before + 1 for delay_s in delays_s)
