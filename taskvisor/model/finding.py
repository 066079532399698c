"""What an audit may find: each kind by a code that scripts may rely on, when it becomes one, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.drift import Difference
from taskvisor.model.ids import HostName


class Code(StrEnum):
    """Every kind of finding. `docs/verify.md` says of each what it means; a code is never given another meaning."""

    DOMAIN_WITHOUT_RECORD = "domain-without-record"
    DOMAIN_MISSING = "domain-missing"
    DOMAIN_ELSEWHERE = "domain-elsewhere"
    POWER_DIFFERS = "power-differs"
    DIRECTORY_WITHOUT_RECORD = "directory-without-record"
    DIRECTORY_MISSING = "directory-missing"
    DISK_WITHOUT_RECORD = "disk-without-record"
    LINK_WITHOUT_RECORD = "link-without-record"
    LINK_MISSING = "link-missing"
    LINK_NOT_OPEN = "link-not-open"
    FILTER_MISSING = "filter-missing"
    DHCP_WITHOUT_RECORD = "dhcp-without-record"
    DHCP_MISSING = "dhcp-missing"
    METADATA_MISSING = "metadata-missing"
    IMAGE_FILE_WITHOUT_RECORD = "image-file-without-record"
    IMAGE_FILE_MISSING = "image-file-missing"
    IMAGE_DELETION_OVERDUE = "image-deletion-overdue"
    HOST_SILENT = "host-silent"
    HOST_FORCED_DOWN_SPEAKS = "host-forced-down-speaks"
    GUEST_DRIFTED = "guest-drifted"
    DISK_DRIFTED = "disk-drifted"

    CLAIM_WITHOUT_INSTANCE = "claim-without-instance"
    INSTANCE_WITHOUT_CLAIM = "instance-without-claim"
    THING_NOT_HELD = "thing-not-held"
    HOST_MARKED = "host-marked"
    USAGE_DIFFERS = "usage-differs"
    USED_DIFFERS = "used-differs"
    CLAIM_BEYOND_CAPACITY = "claim-beyond-capacity"
    NAME_WITHOUT_INSTANCE = "name-without-instance"
    INSTANCE_WITHOUT_NAME = "instance-without-name"
    INSTANCE_WITHOUT_OPERATION = "instance-without-operation"

    ADDRESS_WITHOUT_PORT = "address-without-port"
    PORT_WITHOUT_ADDRESS = "port-without-address"
    PORT_WITHOUT_INSTANCE = "port-without-instance"
    INSTANCE_WITHOUT_PORT = "instance-without-port"
    MAC_WITHOUT_PORT = "mac-without-port"
    ADDRESS_HELD_TWICE = "address-held-twice"
    ALLOCATION_FORGOTTEN = "allocation-forgotten"
    ALLOCATION_OF_INSTANCE = "allocation-of-instance"

    MEMBER_DIFFERS = "member-differs"
    MEMBER_WITHOUT_PORT = "member-without-port"

    LEASE_WITHOUT_OPERATION = "lease-without-operation"
    OPERATION_WITHOUT_LEASE = "operation-without-lease"
    OPERATION_WITHOUT_INSTANCE = "operation-without-instance"
    OPERATION_OVERDUE = "operation-overdue"
    OPERATION_STUCK = "operation-stuck"
    IMAGE_NAME_WITHOUT_IMAGE = "image-name-without-image"
    VOLUME_HOLD_LEFT = "volume-hold-left"
    VOLUME_NOT_HELD = "volume-not-held"
    VOLUME_HELD_TWICE = "volume-held-twice"
    CONNECTION_WITHOUT_RECORD = "connection-without-record"
    CONNECTION_MISSING = "connection-missing"

    INDEX_DIFFERS = "index-differs"
    RECORD_UNREADABLE = "record-unreadable"
    DEAD_LETTERS = "dead-letters"
    QUEUE_ORPHANED = "queue-orphaned"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    `subject` names what it is about, by an id or a key; with `code` and `host` it is the finding's identity, the same at
    every look. `host` is None for what concerns the records of no single host. `message` says what is true now, and of a
    guest that has drifted `differences` say it one by one.
    """

    code: Code
    subject: str
    host: HostName | None
    message: str
    differences: tuple[Difference, ...] = ()

    @property
    def identity(self) -> tuple[Code, str, HostName | None]:
        """What makes it the same finding when it is seen again."""
        return self.code, self.subject, self.host


@dataclass(frozen=True, kw_only=True)
class AuditLimits:
    """How long things may take before they are findings. The first two are settings; sweeps free what is forgotten."""

    sweep_s: float = 15.0
    power_sync_s: float = 60.0
    overdue_sweeps: int = 4
    relaunches: int = 3
    """An operation that was sent on so often without a step having begun is overdue, however lately it was sent."""
    forgotten_s: float = 600.0
    power_syncs: int = 2

    @property
    def overdue_s(self) -> float:
        return self.overdue_sweeps * self.sweep_s


_BY_HAND = "compare by hand, then mend the key with redis-cli; see docs/verify.md"
_LEFT_ON_HOST = "make sure by its content that nobody needs it, then remove it on the host by hand"
_RESTORED = "the host's `host.check_networks` restores it, if beat runs; or `taskvisor reboot --hard NAME`"

ADVICE: Mapping[Code, str] = {
    Code.DOMAIN_WITHOUT_RECORD: "look at its `virsh dumpxml`; if nobody needs it: `virsh destroy` and `virsh undefine`",
    Code.DOMAIN_MISSING: "if its disks are there, `taskvisor reboot --hard NAME` (`start` when stopped); else delete it",
    Code.DOMAIN_ELSEWHERE: "never start it there: two guests on one disk's copy; find out which one is in use, remove the other",
    Code.POWER_DIFFERS: "see that beat runs and that the host's control node takes `host.sync_power_states`",
    Code.DIRECTORY_WITHOUT_RECORD: _LEFT_ON_HOST,
    Code.DIRECTORY_MISSING: "its disks are lost: restore the directory from a copy, or `taskvisor delete NAME`",
    Code.DISK_WITHOUT_RECORD: "make sure that nobody needs it, then remove it from the volume group or Ceph pool by hand",
    Code.LINK_WITHOUT_RECORD: "no guest of ours uses it: `ip link delete` it on the host",
    Code.LINK_MISSING: _RESTORED,
    Code.LINK_NOT_OPEN: f"it must let go of the dead NIC, {_RESTORED}",
    Code.FILTER_MISSING: _RESTORED,
    Code.DHCP_WITHOUT_RECORD: "remove the line from the network's `hosts` file on the host and SIGHUP its dnsmasq",
    Code.DHCP_MISSING: _RESTORED,
    Code.METADATA_MISSING: _RESTORED,
    Code.IMAGE_FILE_WITHOUT_RECORD: _LEFT_ON_HOST,
    Code.IMAGE_FILE_MISSING: "guests can't be built from it: restore the file, or take the snapshot again",
    Code.IMAGE_DELETION_OVERDUE: "put right what the host says; it is asked again. See the log of its control node",
    Code.HOST_SILENT: "look at the host and at its workers' logs; nothing was concluded about its guests",
    Code.HOST_FORCED_DOWN_SPEAKS: "stop its worker; or, if it lives and may be used, `taskvisor host force-down HOST --up`",
    Code.GUEST_DRIFTED: "`taskvisor reboot --hard NAME` defines it anew from its record; or edit it back by hand (`virsh edit`)",
    Code.DISK_DRIFTED: "stop the guest before more is lost; restore the file from a copy, or `taskvisor delete NAME`",
    Code.CLAIM_WITHOUT_INSTANCE: _BY_HAND,
    Code.INSTANCE_WITHOUT_CLAIM: _BY_HAND,
    Code.THING_NOT_HELD: "two guests share what each should have alone: stop one, then delete it and build it anew",
    Code.HOST_MARKED: "put right what it says of itself, or the settings of its worker; nothing is placed there until then",
    Code.USAGE_DIFFERS: "see the host's findings of domains; `taskvisor reboot --hard NAME` defines a guest anew from its record",
    Code.USED_DIFFERS: "set the amounts to the sum of the host's claims; see docs/verify.md",
    Code.CLAIM_BEYOND_CAPACITY: "delete guests there, or raise its ratios",
    Code.NAME_WITHOUT_INSTANCE: _BY_HAND,
    Code.INSTANCE_WITHOUT_NAME: _BY_HAND,
    Code.INSTANCE_WITHOUT_OPERATION: "`taskvisor delete NAME` takes away what is left of it",
    Code.ADDRESS_WITHOUT_PORT: _BY_HAND,
    Code.PORT_WITHOUT_ADDRESS: _BY_HAND,
    Code.PORT_WITHOUT_INSTANCE: _BY_HAND,
    Code.INSTANCE_WITHOUT_PORT: _BY_HAND,
    Code.MAC_WITHOUT_PORT: _BY_HAND,
    Code.ADDRESS_HELD_TWICE: "stop one of the two guests at once; then delete and build it anew",
    Code.ALLOCATION_FORGOTTEN: "see that beat runs: its sweep frees it",
    Code.ALLOCATION_OF_INSTANCE: "remove it from `allocating` before a sweep frees an address that is in use",
    Code.MEMBER_DIFFERS: "the host's `host.check_networks` mends it, if beat runs; or a restart of its control node",
    Code.MEMBER_WITHOUT_PORT: "see that no guest has the port, then `redis-cli hdel PREFIXKEY PORT`, the subject's two words",
    Code.LEASE_WITHOUT_OPERATION: "`taskvisor delete NAME` takes over; or delete the key `lease:ID`",
    Code.OPERATION_WITHOUT_LEASE: "`taskvisor ops cancel ID`; its next write will be refused",
    Code.OPERATION_WITHOUT_INSTANCE: _BY_HAND,
    Code.OPERATION_OVERDUE: "see that beat runs, and look at the log of the host's steps node",
    Code.OPERATION_STUCK: "`taskvisor ops show ID`; mend what it names, then `taskvisor ops retry ID`, or delete the instance",
    Code.IMAGE_NAME_WITHOUT_IMAGE: "`redis-cli hdel PREFIXimages NAME` frees the name",
    Code.VOLUME_HOLD_LEFT: "`redis-cli hdel PREFIXvolume:IDENTITY INSTANCE`, once no host is connected to it for that instance",
    Code.VOLUME_NOT_HELD: "see that nobody else has it; then `redis-cli hset PREFIXvolume:IDENTITY INSTANCE alone`",
    Code.VOLUME_HELD_TWICE: "stop one of the guests at once: both write to it; then detach it there",
    Code.CONNECTION_WITHOUT_RECORD: "see that no guest has it open; then disconnect it by hand; see docs/verify.md",
    Code.CONNECTION_MISSING: "`taskvisor reboot --hard NAME` connects it again",
    Code.INDEX_DIFFERS: _BY_HAND,
    Code.RECORD_UNREADABLE: "if a newer version wrote it, upgrade this one; else restore it, or remove the key by hand",
    Code.DEAD_LETTERS: "`redis-cli lrange QUEUE.dead 0 -1` has each one's reason; then `redis-cli del QUEUE.dead`",
    Code.QUEUE_ORPHANED: "start the host's worker: it takes them up",
}
"""What to do about each, in a line; docs/verify.md has more."""
