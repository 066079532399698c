"""What the host's operator chooses for all of its guests, where a guest's options leave it open."""

from dataclasses import dataclass, field

from taskvisor.model.operator import CephAccess, Dialect, Vendor
from virt.domain.display import VideoModel
from virt.domain.nova_owner import NovaDialect


@dataclass(frozen=True, kw_only=True)
class NovaOwnership:
    """What Nova's metadata say of an owner beyond the record: they are written when it is given, beside ours."""

    dialect: NovaDialect
    package_version: str
    user: str
    user_uuid: str
    project: str
    project_uuid: str


@dataclass(frozen=True, kw_only=True)
class HostChoices:
    """`kernel_roots`: below which directories of the host a guest may ask for its kernel. Without any it may not: a caller
    could have any file of the host shown to a guest. `shared_cpus`: where what is not pinned runs, beside pinned guests.
    `dedicated_cpus`: those of the host that only pinned guests have.
    """

    dialect: Dialect = Dialect.OURS
    vendor: Vendor = field(default_factory=Vendor)
    # Loopback only: VNC has no password here, so whoever reaches the port has the screen.
    vnc_address: str = "127.0.0.1"
    vnc_keymap: str | None = None
    # The one card that every guest shows something on without a driver.
    video_model: VideoModel = VideoModel.VGA
    kernel_roots: tuple[str, ...] = ()
    shared_cpus: frozenset[int] = frozenset()
    dedicated_cpus: frozenset[int] = frozenset()
    ceph: CephAccess | None = None
    nova_owner: NovaOwnership | None = None
