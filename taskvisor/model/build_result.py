"""What became of a build on each host that it was on, in Nova's words.

Pure: an operation in, words out. Whether a host is to be blamed follows from the word: what failed by policy says nothing
against it.
"""

from collections.abc import Mapping
from enum import StrEnum

from taskvisor.model.errors import Cancelled, DoesNotFit
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase

POLICY_CODES = frozenset({DoesNotFit.__name__, Cancelled.__name__})
"""Failures that are not the host's: what was asked did not go there, or was not wanted any more."""


class BuildResult(StrEnum):
    """Nova's `build_results`."""

    ACTIVE = "active"
    FAILED = "failed"
    RESCHEDULED = "rescheduled"
    FAILED_BY_POLICY = "failed_by_policy"
    RESCHEDULED_BY_POLICY = "rescheduled_by_policy"


def build_results_of(operation: Operation) -> Mapping[HostName, BuildResult]:
    """By host, in the order in which they were tried; of the last one nothing while the build is under way there.

    Nothing of an operation that is no build. A build leaves a host for the next one only when it does not fit, which is
    policy. A STUCK build has failed: a person must look.
    """
    if operation.flow != "instance.build":
        return {}
    left = dict.fromkeys(operation.excluded_hosts, BuildResult.RESCHEDULED_BY_POLICY)
    return {**left, operation.host: _end_of(operation)} if operation.phase.settled else left


def _end_of(operation: Operation) -> BuildResult:
    if operation.phase is Phase.SUCCEEDED:
        return BuildResult.ACTIVE
    by_policy = operation.failure is not None and operation.failure.code in POLICY_CODES
    return BuildResult.FAILED_BY_POLICY if by_policy else BuildResult.FAILED
