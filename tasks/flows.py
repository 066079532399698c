"""Every flow there is. A flow that is listed here gets its Celery tasks, its documentation and its crash tests by that alone."""

from tasks.build import BuildFlow
from tasks.delete import DeleteFlow
from tasks.interfaces import AttachInterfaceFlow, DetachInterfaceFlow
from tasks.power import RebootFlow, StartFlow, StopFlow
from tasks.snapshot import SnapshotFlow
from tasks.soft_delete import ReclaimFlow, RestoreFlow, SoftDeleteFlow
from tasks.volumes import AttachVolumeFlow, DetachVolumeFlow
from taskvisor.flow.step import Flow, Flows
from taskvisor.model.errors import UnreadableRecord

ALL_FLOWS: tuple[Flow, ...] = (
    BuildFlow(),
    DeleteFlow(),
    StartFlow(),
    StopFlow(),
    RebootFlow(),
    SnapshotFlow(),
    AttachVolumeFlow(),
    DetachVolumeFlow(),
    AttachInterfaceFlow(),
    DetachInterfaceFlow(),
    SoftDeleteFlow(),
    RestoreFlow(),
    ReclaimFlow(),
)


class _Flows(dict[str, Flow]):
    """By name. A record names its flow, and a newer version may have written it."""

    def __missing__(self, name: str) -> Flow:
        raise UnreadableRecord(f"this Taskvisor knows no flow {name!r}; if a newer one wrote it, upgrade this node")


FLOWS: Flows = _Flows({flow.name: flow for flow in ALL_FLOWS})
"""Every flow by its name. UnreadableRecord for a name that is not there."""
