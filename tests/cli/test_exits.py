"""Exit codes."""

import pytest

from taskvisor.cli.exits import ExitCode, UsageError, code_for, code_of_all
from taskvisor.model.errors import AlreadySo, CannotAsk, Conflicting, NoCapacity, OutOfTries, Refused, TaskvisorError

DONE, FAILED, ALREADY = ExitCode.DONE, ExitCode.FAILED, ExitCode.ALREADY


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (AlreadySo("x"), 3),
        (NoCapacity("x"), 5),
        (Refused("x"), 1),
        (Conflicting("x"), 1),
        (OutOfTries("x"), 1),
        (CannotAsk("x"), 1),
        (TaskvisorError("x"), 1),
    ],
)
def test_each_error_has_its_code(error: TaskvisorError, code: int) -> None:
    assert code_for(error) == code


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], DONE),
        ([DONE, ALREADY], DONE),
        ([ALREADY, ALREADY], ALREADY),
        ([DONE, FAILED, ALREADY], FAILED),
        ([DONE, ExitCode.STILL_RUNNING], ExitCode.STILL_RUNNING),
        ([ExitCode.STILL_RUNNING, FAILED], FAILED),
    ],
)
def test_of_several_requests_the_gravest_counts(codes: list[ExitCode], code: ExitCode) -> None:
    assert code_of_all(codes) is code
