"""What can be asked, and what each request is made of: the arguments' model and the result's type, by the name of its task.

The doors use the same models, and tests hold both to this list: it is what is published to producers (docs/schema).
"""

from dataclasses import dataclass
from typing import Any

from tasks.door import BUILD, CHANGES
from tasks.interface_requests import ATTACH as ATTACH_INTERFACE
from tasks.interface_requests import DETACH as DETACH_INTERFACE
from tasks.soft_delete import RECLAIM, RESTORE, SOFT_DELETE
from tasks.volume_requests import ATTACH, DETACH
from taskvisor.fields import (
    ChangedFlavorView,
    ChangedFloatingView,
    CreatedNetworkView,
    DeletedFloatingView,
    DeletedImageView,
    DeletedRecordView,
    DeletedView,
    KeptView,
    PowerView,
    RegisteredView,
    RepairView,
    SnapshotView,
    WishView,
    WrittenGroupView,
)
from taskvisor.model.allowed import DELETE
from taskvisor.model.flavor_spec import (
    FlavorAccessSpec,
    FlavorCreateSpec,
    FlavorRefSpec,
    FlavorSetSpec,
    FlavorUnsetSpec,
)
from taskvisor.model.fleet_spec import (
    AggregateHostSpec,
    AggregateRefSpec,
    AggregateSpec,
    BatchSpec,
    DisableHostSpec,
    HostSpec,
    LabelHostSpec,
    ServerGroupRefSpec,
    ServerGroupSpec,
    SetAggregateSpec,
)
from taskvisor.model.fleet_views import (
    AggregateView,
    BatchView,
    DeletedAggregateView,
    HostLabelsView,
    HostStateView,
    PlanView,
    ServerGroupView,
)
from taskvisor.model.group_spec import (
    FloatingBindSpec,
    FloatingRefSpec,
    FloatingSpec,
    PortUpdateSpec,
    SecurityGroupRefSpec,
    SecurityGroupSpec,
    SecurityGroupUpdateSpec,
)
from taskvisor.model.host_operation_spec import DrainSpec, HostOperationSpec, PlanDrainSpec, TakingSpec, UndrainSpec
from taskvisor.model.host_views import DrainPlanView, DrainView, ForcedDownView, RemovedHostView, UndrainView
from taskvisor.model.network_spec import NetworkRefSpec, NetworkSpec
from taskvisor.model.orphan import KeepSpec
from taskvisor.model.repair import RepairSpec
from taskvisor.model.spec import BuildSpec, ImageRefSpec, ImageSpec, OperationSpec, Spec
from taskvisor.model.view import InstanceView


@dataclass(frozen=True, kw_only=True)
class Request:
    """`takes` validates the arguments; `gives` is the type of the result, a TypedDict."""

    takes: type[Spec]
    gives: Any


def _change(name: str, gives: Any) -> Request:
    return Request(takes=CHANGES[name], gives=gives)


REQUESTS: dict[str, Request] = {
    BUILD: Request(takes=BuildSpec, gives=InstanceView),
    "instance.build_many": Request(takes=BatchSpec, gives=BatchView),
    "instance.plan": Request(takes=BuildSpec, gives=PlanView),
    DELETE: _change(DELETE, DeletedView),
    SOFT_DELETE: _change(SOFT_DELETE, PowerView),
    RESTORE: _change(RESTORE, PowerView),
    RECLAIM: _change(RECLAIM, DeletedView),
    "instance.start": _change("instance.start", PowerView),
    "instance.stop": _change("instance.stop", PowerView),
    "instance.reboot": _change("instance.reboot", InstanceView),
    "instance.snapshot": _change("instance.snapshot", SnapshotView),
    ATTACH: _change(ATTACH, PowerView),
    DETACH: _change(DETACH, InstanceView),
    ATTACH_INTERFACE: _change(ATTACH_INTERFACE, InstanceView),
    DETACH_INTERFACE: _change(DETACH_INTERFACE, InstanceView),
    "port.update": Request(takes=PortUpdateSpec, gives=PowerView),
    "image.register": Request(takes=ImageSpec, gives=RegisteredView),
    "image.delete": Request(takes=ImageRefSpec, gives=DeletedImageView),
    "flavor.create": Request(takes=FlavorCreateSpec, gives=ChangedFlavorView),
    "flavor.delete": Request(takes=FlavorRefSpec, gives=DeletedRecordView),
    "flavor.set": Request(takes=FlavorSetSpec, gives=ChangedFlavorView),
    "flavor.unset": Request(takes=FlavorUnsetSpec, gives=ChangedFlavorView),
    "flavor.add_access": Request(takes=FlavorAccessSpec, gives=ChangedFlavorView),
    "flavor.remove_access": Request(takes=FlavorAccessSpec, gives=ChangedFlavorView),
    "network.create": Request(takes=NetworkSpec, gives=CreatedNetworkView),
    "network.delete": Request(takes=NetworkRefSpec, gives=DeletedRecordView),
    "security_group.create": Request(takes=SecurityGroupSpec, gives=WrittenGroupView),
    "security_group.update": Request(takes=SecurityGroupUpdateSpec, gives=WrittenGroupView),
    "security_group.delete": Request(takes=SecurityGroupRefSpec, gives=DeletedRecordView),
    "floating.create": Request(takes=FloatingSpec, gives=ChangedFloatingView),
    "floating.bind": Request(takes=FloatingBindSpec, gives=ChangedFloatingView),
    "floating.release": Request(takes=FloatingRefSpec, gives=ChangedFloatingView),
    "floating.delete": Request(takes=FloatingRefSpec, gives=DeletedFloatingView),
    "host.enable": Request(takes=HostSpec, gives=HostStateView),
    "host.disable": Request(takes=DisableHostSpec, gives=HostStateView),
    "host.label": Request(takes=LabelHostSpec, gives=HostLabelsView),
    "host.plan_drain": Request(takes=PlanDrainSpec, gives=DrainPlanView),
    "host.drain": Request(takes=DrainSpec, gives=DrainView),
    "host.undrain": Request(takes=UndrainSpec, gives=UndrainView),
    "host.force_down": Request(takes=TakingSpec, gives=ForcedDownView),
    "host.force_up": Request(takes=HostOperationSpec, gives=ForcedDownView),
    "host.remove": Request(takes=TakingSpec, gives=RemovedHostView),
    "aggregate.create": Request(takes=AggregateSpec, gives=AggregateView),
    "aggregate.set": Request(takes=SetAggregateSpec, gives=AggregateView),
    "aggregate.add_host": Request(takes=AggregateHostSpec, gives=AggregateView),
    "aggregate.remove_host": Request(takes=AggregateHostSpec, gives=AggregateView),
    "aggregate.delete": Request(takes=AggregateRefSpec, gives=DeletedAggregateView),
    "server_group.create": Request(takes=ServerGroupSpec, gives=ServerGroupView),
    "server_group.delete": Request(takes=ServerGroupRefSpec, gives=DeletedRecordView),
    "fleet.repair": Request(takes=RepairSpec, gives=RepairView),
    "fleet.keep_orphan": Request(takes=KeepSpec, gives=KeptView),
    "operation.cancel": Request(takes=OperationSpec, gives=WishView),
    "operation.retry": Request(takes=OperationSpec, gives=WishView),
}
"""By task. All of them are taken from the queue `compute`."""
