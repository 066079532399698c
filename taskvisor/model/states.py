"""The closed sets of words, with Nova's values."""

from enum import IntEnum, StrEnum


class VmState(StrEnum):
    """What an instance is, as far as its owner is concerned. Stable between operations."""

    ACTIVE = "active"
    BUILDING = "building"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    RESCUED = "rescued"
    RESIZED = "resized"
    SOFT_DELETED = "soft-delete"
    DELETED = "deleted"
    ERROR = "error"
    SHELVED = "shelved"
    SHELVED_OFFLOADED = "shelved_offloaded"


class TaskState(StrEnum):
    """What is being done to an instance at this moment; an instance at rest has none."""

    SCHEDULING = "scheduling"
    BLOCK_DEVICE_MAPPING = "block_device_mapping"
    NETWORKING = "networking"
    SPAWNING = "spawning"
    IMAGE_SNAPSHOT_PENDING = "image_snapshot_pending"
    IMAGE_SNAPSHOT = "image_snapshot"
    IMAGE_PENDING_UPLOAD = "image_pending_upload"
    IMAGE_UPLOADING = "image_uploading"
    IMAGE_BACKUP = "image_backup"
    UPDATING_PASSWORD = "updating_password"  # noqa: S105 - Nova's word, not a password
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_MIGRATED = "resize_migrated"
    RESIZE_FINISH = "resize_finish"
    RESIZE_REVERTING = "resize_reverting"
    RESIZE_CONFIRMING = "resize_confirming"
    REBOOTING = "rebooting"
    REBOOT_PENDING = "reboot_pending"
    REBOOT_STARTED = "reboot_started"
    REBOOTING_HARD = "rebooting_hard"
    REBOOT_PENDING_HARD = "reboot_pending_hard"
    REBOOT_STARTED_HARD = "reboot_started_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    POWERING_OFF = "powering-off"
    POWERING_ON = "powering-on"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    REBUILDING = "rebuilding"
    REBUILD_BLOCK_DEVICE_MAPPING = "rebuild_block_device_mapping"
    REBUILD_SPAWNING = "rebuild_spawning"
    MIGRATING = "migrating"
    DELETING = "deleting"
    SOFT_DELETING = "soft-deleting"
    RESTORING = "restoring"
    SHELVING = "shelving"
    SHELVING_IMAGE_PENDING_UPLOAD = "shelving_image_pending_upload"
    SHELVING_IMAGE_UPLOADING = "shelving_image_uploading"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"


class PowerState(IntEnum):
    """What the hypervisor says. The record is a snapshot; the hypervisor is the authority."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7

    @property
    def is_down(self) -> bool:
        """Nothing of the guest runs: it was shut down, or has crashed."""
        return self in (PowerState.SHUTDOWN, PowerState.CRASHED)

    @property
    def vm_state(self) -> VmState:
        """What an instance is of which only this is known."""
        match self:
            case PowerState.RUNNING:
                return VmState.ACTIVE
            case PowerState.PAUSED:
                return VmState.PAUSED
            case PowerState.SUSPENDED:
                return VmState.SUSPENDED
            case _:
                return VmState.STOPPED

    @property
    def label(self) -> str:
        """The word shown to people."""
        return "pending" if self is PowerState.NOSTATE else self.name.lower()


class InstanceAction(StrEnum):
    """What callers can ask of an instance. Nova's `instance_actions`, all of them; which of them there are flows for,
    `taskvisor.model.allowed` says.
    """

    CREATE = "create"
    DELETE = "delete"
    EVACUATE = "evacuate"
    RESTORE = "restore"
    STOP = "stop"
    START = "start"
    REBOOT = "reboot"
    REBUILD = "rebuild"
    REVERT_RESIZE = "revertResize"
    CONFIRM_RESIZE = "confirmResize"
    RESIZE = "resize"
    MIGRATE = "migrate"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SUSPEND = "suspend"
    RESUME = "resume"
    RESCUE = "rescue"
    UNRESCUE = "unrescue"
    CHANGE_PASSWORD = "changePassword"  # noqa: S105 - Nova's word, not a password
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    SHELVE_OFFLOAD = "shelveOffload"
    LIVE_MIGRATION = "live-migration"
    LIVE_MIGRATION_CANCEL = "live_migration_cancel"
    LIVE_MIGRATION_FORCE_COMPLETE = "live_migration_force_complete"
    TRIGGER_CRASH_DUMP = "trigger_crash_dump"
    EXTEND_VOLUME = "extend_volume"
    ATTACH_INTERFACE = "attach_interface"
    DETACH_INTERFACE = "detach_interface"
    ATTACH_VOLUME = "attach_volume"
    DETACH_VOLUME = "detach_volume"
    ATTACH_SHARE = "attach_share"
    DETACH_SHARE = "detach_share"
    SWAP_VOLUME = "swap_volume"
    LOCK = "lock"
    UNLOCK = "unlock"
    BACKUP = "createBackup"
    SNAPSHOT = "createImage"
    RESET_STATE = "resetState"
    REFRESH_VOLUME_ATTACHMENT = "refresh_volume_attachment"


class PowerPolicy(StrEnum):
    """What becomes of a guest whose power is not what its record says: see `taskvisor.compute.power_sync`."""

    FOLLOW = "follow"
    STOP = "stop"


class OnFailure(StrEnum):
    """What becomes of a build that fails."""

    ROLLBACK = "rollback"  # all that it made is taken back
    KEEP = "keep"  # it stays as it is, to be gone on with from the step that failed, or deleted


class RebootType(StrEnum):
    SOFT = "soft"
    HARD = "hard"


class VirtType(StrEnum):
    KVM = "kvm"
    QEMU = "qemu"


class SeedKind(StrEnum):
    """What the disk is like from which a guest's cloud-init learns who it is."""

    NOCLOUD = "nocloud"  # cloud-init's own layout, on a CD-ROM
    CONFIG_DRIVE = "configdrive"  # OpenStack's, on a CD-ROM
    CONFIG_DRIVE_VFAT = "configdrive-vfat"  # OpenStack's, on a disk with FAT


class ImageFormat(StrEnum):
    """What a disk image may be, in Glance's words. Guests' disks are qcow2 or raw; what else comes in is converted."""

    QCOW2 = "qcow2"
    RAW = "raw"
    ISO = "iso"  # kept as it is, and read as raw
    VMDK = "vmdk"
    VDI = "vdi"
    VHD = "vhd"  # vpc to QEMU
    VHDX = "vhdx"

    @property
    def kept_as(self) -> "ImageFormat":
        """What a cache makes of an image of this format, and guests' disks are told that it is."""
        if self in (ImageFormat.RAW, ImageFormat.ISO):
            return ImageFormat.RAW
        return ImageFormat.QCOW2


class Phase(StrEnum):
    """Where an operation is in its life. The first three are unsettled: something is still to be done."""

    WAITING = "waiting"  # accepted; another operation is being stopped to make room for it
    RUNNING = "running"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # rolled back: nothing is left; or kept as it was, on request
    CANCELLED = "cancelled"  # stopped on request, or taken over by a delete
    STUCK = "stuck"  # a person must look: something was left alone on purpose

    @property
    def settled(self) -> bool:
        """True when the operation has ended and no step of it will ever run again (STUCK waits for a retry)."""
        return self not in (Phase.WAITING, Phase.RUNNING, Phase.ROLLING_BACK)


class Direction(StrEnum):
    DO = "do"
    UNDO = "undo"


class Mark(StrEnum):
    """How far one direction of one step has come, as the journal knows it."""

    PENDING = "pending"
    STARTED = "started"  # written before the host is touched
    DONE = "done"
