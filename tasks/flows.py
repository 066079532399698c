"""Every flow there is. A flow that is listed here gets its Celery tasks, its documentation and its crash tests by that alone."""

from tasks.build import BuildFlow
from tasks.delete import DeleteFlow
from tasks.power import RebootFlow, StartFlow, StopFlow
from tasks.snapshot import SnapshotFlow
from taskvisor.flow.step import Flow

ALL_FLOWS: tuple[Flow, ...] = (BuildFlow(), DeleteFlow(), StartFlow(), StopFlow(), RebootFlow(), SnapshotFlow())
FLOWS = {flow.name: flow for flow in ALL_FLOWS}
