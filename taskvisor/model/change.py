"""One atomic write to the store, as a value: made by pure functions, carried out by `Journal.commit`."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.network import Port
from taskvisor.model.operation import Operation
from taskvisor.model.records import Claim, Image, Instance


class LeaseMove(StrEnum):
    """What happens to the instance's lease. A lease is (operation, fencing token); one per instance.

    All but WATCH show the token of `Change.before`; the store refuses it when the lease has moved on.
    """

    KEEP = "keep"
    RENEW = "renew"  # a step begins: the token of `after` replaces that of `before`
    RELEASE = "release"  # the operation has ended
    HAND_OVER = "hand_over"  # it has ended, and the lease goes to `Change.successor`
    WATCH = "watch"  # a bystander's note (a wish to cancel, a relaunch): only the revision is checked


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An operation and the record of its instance, read in one look."""

    operation: Operation
    instance: Instance | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """`after` replaces `before`, all of it or nothing.

    `instance` replaces the instance's record; with `forget_instance` it is the last record, which is removed together
    with its claim, its ports and its name. `claim` replaces the claim that the instance has. `images` are registered,
    `released_image_name` is free again, and so are `released_volumes` (identities) and the addresses of `released_ports`.
    `successor` is the waiting operation, as it is once it holds the lease.
    """

    before: Operation
    after: Operation
    lease: LeaseMove = LeaseMove.KEEP
    instance: Instance | None = None
    forget_instance: bool = False
    images: tuple[Image, ...] = ()
    released_image_name: str | None = None
    successor: Operation | None = None
    claim: Claim | None = None
    released_volumes: tuple[str, ...] = ()
    released_ports: tuple[Port, ...] = ()
