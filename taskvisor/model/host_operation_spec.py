"""What callers may ask of a whole host, validated. As `spec`.

`by` is who asks, as he says himself: there is no proof of it.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from taskvisor.model.drain import BuildPolicy, GuestPolicy
from taskvisor.model.queues import reads_as_a_list
from taskvisor.model.spec import Spec

DEADLINE_LIMIT_S = 30 * 86400
SOMEBODY = "somebody"
NAME_RULE = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$"


def _names_no_queue(host: str) -> str:
    if reads_as_a_list(host):
        raise ValueError("is the name of a queue, and of no host; `taskvisor hosts` lists those")
    return host


def _ahead(seconds: int) -> int:
    if seconds <= 0:
        raise ValueError("must lie ahead: at least 1 s from now")
    return seconds


HostRef = Annotated[str, StringConstraints(pattern=NAME_RULE), AfterValidator(_names_no_queue)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]


class HostOperationSpec(Spec):
    """Which host, and who asks."""

    host: HostRef
    by: Words = SOMEBODY


class TakingSpec(HostOperationSpec):
    """Something is taken away, for a reason that others will read."""

    reason: Words


class DrainSpec(TakingSpec):
    """What `host.drain` does with what runs there, and until when it tries."""

    deadline_s: Annotated[int, AfterValidator(_ahead), Field(le=DEADLINE_LIMIT_S)] = 3600
    guests: Annotated[GuestPolicy, Field(strict=False)] = GuestPolicy.LEAVE
    builds: Annotated[BuildPolicy, Field(strict=False)] = BuildPolicy.WAIT


class PlanDrainSpec(HostOperationSpec):
    """What a drain would come to now."""

    guests: Annotated[GuestPolicy, Field(strict=False)] = GuestPolicy.LEAVE
    builds: Annotated[BuildPolicy, Field(strict=False)] = BuildPolicy.WAIT


class UndrainSpec(HostOperationSpec):
    """`start_guests`: those that the drain stopped run again."""

    start_guests: bool = False
