"""The edge to Celery over a simulated fleet, with plain Redis as its broker: no worker runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from celery import Celery

from tasks.edge import Edge
from tasks.node import Node
from taskvisor.model.ids import HostName
from taskvisor.model.urls import celery_url_for
from tests.support.fleet import Fleet


class DoorOnly:
    """As much of a node as requests and fan-outs ask for."""

    def __init__(self, fleet: Fleet) -> None:
        self.host = HostName("h1")
        self.door = fleet.door
        self.drain_at_once = 2
        self.sweep = fleet.sweep


@contextmanager
def open_edge_app(redis_url: str, fleet: Fleet) -> Iterator[Celery]:
    """An app with every task of the edge."""
    url = celery_url_for(redis_url)
    app = Celery("edge", broker=url, backend=url, set_as_current=False)
    Edge(app, lambda: cast(Node, DoorOnly(fleet))).register()
    try:
        yield app
    finally:
        app.close()
