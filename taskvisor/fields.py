"""What requests are made of, and what they come to, as the Python client's types: dicts, as Celery carries them.

Requests are validated where they are taken (docs/producers.md), not here.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from taskvisor.model.flavor_record import FlavorView
from taskvisor.model.network_view import FloatingView, NetworkView, SecurityGroupView
from taskvisor.model.view import ImageView, InstanceView, SnapshotImageView


class FlavorFields(TypedDict):
    vcpus: int
    memory_mib: int
    disk_gib: NotRequired[int]
    swap_mib: NotRequired[int]
    ephemeral_gib: NotRequired[int]
    extra_specs: NotRequired[dict[str, str]]


class NewFlavorFields(FlavorFields):
    """As `taskvisor.model.flavor_spec.FlavorCreateSpec` has them, but for the name."""

    id: NotRequired[str]
    public: NotRequired[bool]
    projects: NotRequired[Sequence[str]]


class BandwidthFields(TypedDict):
    average_kib_s: int
    peak_kib_s: NotRequired[int]
    burst_kib: NotRequired[int]


class QosFields(TypedDict):
    """As the guest sees it: `inbound` is what it receives."""

    inbound: NotRequired[BandwidthFields]
    outbound: NotRequired[BandwidthFields]


class AddressPairFields(TypedDict):
    address: str
    mac: NotRequired[str]


class NicFields(TypedDict):
    """As `taskvisor.model.spec.NicSpec` has them."""

    network: str
    mac: NotRequired[str]
    address: NotRequired[str]
    address6: NotRequired[str]
    security_groups: NotRequired[Sequence[str]]
    allowed_pairs: NotRequired[Sequence[AddressPairFields]]
    anti_spoofing: NotRequired[bool]
    qos: NotRequired[QosFields]
    queues: NotRequired[int]


class VolumeFields(TypedDict):
    """As `taskvisor.model.spec.VolumeSpec` has them."""

    source: str
    format: NotRequired[str]
    serial: NotRequired[str]
    device: NotRequired[str]
    bus: NotRequired[str]
    boot_index: NotRequired[int]
    shareable: NotRequired[bool]
    readonly: NotRequired[bool]
    cache: NotRequired[str]
    io: NotRequired[str]
    discard: NotRequired[str]
    total_bytes_s: NotRequired[int]
    read_bytes_s: NotRequired[int]
    write_bytes_s: NotRequired[int]
    total_iops: NotRequired[int]
    read_iops: NotRequired[int]
    write_iops: NotRequired[int]


class RouteFields(TypedDict):
    destination: str
    via: str


class NetworkFields(TypedDict):
    """As `taskvisor.model.network_spec.NetworkSpec` has them, but for the name."""

    cidr: str
    kind: NotRequired[str]
    gateway: NotRequired[str]
    cidr6: NotRequired[str]
    gateway6: NotRequired[str]
    ipv6_mode: NotRequired[str]
    segment: NotRequired[int]
    physical: NotRequired[str]
    bridge: NotRequired[str]
    mtu: NotRequired[int]
    dhcp: NotRequired[bool]
    nat: NotRequired[bool]
    dns: NotRequired[list[str]]
    ntp: NotRequired[list[str]]
    routes: NotRequired[list[RouteFields]]


class RuleFields(TypedDict):
    """As `taskvisor.model.group_spec.SecurityRuleSpec` has them."""

    direction: str
    family: NotRequired[str]
    protocol: NotRequired[str]
    first_port: NotRequired[int]
    last_port: NotRequired[int]
    remote: NotRequired[str]
    remote_group: NotRequired[str]


class InstanceRef(TypedDict):
    id: str
    name: str


class Progress(TypedDict):
    """How far an operation is: step number `number` of `of`. `step` is None when nothing is left to do."""

    operation: str
    instance: InstanceRef
    host: str
    phase: str
    step: str | None
    number: int
    of: int


class DeletedView(TypedDict):
    """`already`: there was no such instance."""

    id: str
    name: str
    vm_state: str
    already: bool


class PowerView(InstanceView):
    """`already` is there, and true, when the instance was so before."""

    already: NotRequired[bool]


class SnapshotView(InstanceView):
    snapshot: SnapshotImageView


class RegisteredView(ImageView):
    """`already` is there, and true, when that image was registered under that name before."""

    already: NotRequired[bool]


class DeletedImageView(TypedDict):
    """`state` is deleted; `already`: there was no such image."""

    id: str
    name: str
    state: str
    already: NotRequired[bool]


class CreatedNetworkView(NetworkView):
    """`already` is there, and true, when that network was recorded before."""

    already: NotRequired[bool]


class WrittenGroupView(SecurityGroupView):
    """`already` is there, and true, when the group was so before."""

    already: NotRequired[bool]


class ChangedFlavorView(FlavorView):
    """`already` is there, and true, when the flavor was so before."""

    already: NotRequired[bool]


class ChangedFloatingView(FloatingView):
    """`already` is there, and true, when the address was so before."""

    already: NotRequired[bool]


class DeletedRecordView(TypedDict):
    """A network, a group or a flavor. `state` is deleted; `already`: there was none."""

    id: str
    name: str
    state: str
    already: NotRequired[bool]


class DeletedFloatingView(TypedDict):
    """`state` is deleted; `already`: there was none."""

    id: str
    address: str
    state: str
    already: NotRequired[bool]


class WishView(TypedDict):
    """The operation that the wish was about, and its phase as the wish was noted."""

    operation: str
    phase: str


class RepairView(TypedDict):
    """What became of a finding. `mended` False: it was not so any more, and nothing was done."""

    code: str
    subject: str
    host: str | None
    mended: bool
    done: str


class KeptView(TypedDict):
    """What is left alone, as kind and name, by host."""

    kept: dict[str, list[str]]
