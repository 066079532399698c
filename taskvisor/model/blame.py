"""Whether a build that failed speaks against its host.

Nova once counted every failure, so ten builds of one broken image took a host out of service. Here what was asked for is not the
host's fault, nor what another caller did: a host is blamed for what another host would have done.
"""

from enum import Enum

from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase

BUILD = "instance.build"
NOT_THE_HOSTS = frozenset(
    {"AlreadySo", "Cancelled", "Conflicting", "DoesNotFit", "IdInUse", "NoCapacity", "Refused", "StoreConflict"}
)
"""Classes of errors that are the caller's, another's, or the placement's own. No room is no failure: the claim was too early."""
STEPS_OF_WHAT_WAS_ASKED = frozenset({"fetch_image"})
"""Where a build fails by what it was asked to fetch: a URL that nobody answers is down for every host."""


class Credit(Enum):
    """What the end of a build says of its host."""

    PRAISE = "it came to its end there"
    BLAME = "it failed there, by the host's fault"


def credit_for(before: Operation, after: Operation) -> Credit | None:
    """What this move of an operation's record says of `before.host`; None: nothing."""
    if after.flow != BUILD or before.phase.settled or not after.phase.settled:
        return None
    if after.phase is Phase.SUCCEEDED:
        return Credit.PRAISE
    failure = after.failure
    if failure is None or after.told_to_stop or failure.code in NOT_THE_HOSTS:
        return None
    return None if failure.step in STEPS_OF_WHAT_WAS_ASKED else Credit.BLAME
