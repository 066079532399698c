"""What became of a build on the hosts that it was on."""

import pytest

from taskvisor.model.build_result import BuildResult, build_results_of
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Failure, Operation
from taskvisor.model.states import Phase
from tests.support import records


def build(phase: Phase, code: str | None = None, **fields: object) -> Operation:
    failure = None if code is None else Failure(code=code, message="no", step="fetch_image")
    return records.operation(
        "build-web", records.instance(), flow="instance.build", phase=phase, failure=failure, **fields
    )


@pytest.mark.parametrize(
    ("phase", "code", "result"),
    [
        (Phase.SUCCEEDED, None, BuildResult.ACTIVE),
        (Phase.FAILED, "OutOfTries", BuildResult.FAILED),
        (Phase.FAILED, "ValueError", BuildResult.FAILED),
        (Phase.FAILED, "DoesNotFit", BuildResult.FAILED_BY_POLICY),
        (Phase.CANCELLED, "Cancelled", BuildResult.FAILED_BY_POLICY),
        (Phase.STUCK, "Contradiction", BuildResult.FAILED),
    ],
)
def test_a_build_that_has_ended_has_a_result_on_its_host(phase: Phase, code: str | None, result: BuildResult) -> None:
    assert build_results_of(build(phase, code)) == {"h1": result}


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING, Phase.ROLLING_BACK])
def test_a_build_under_way_has_results_on_the_hosts_that_it_left_only(phase: Phase) -> None:
    left = build(phase, excluded_hosts=(HostName("h2"), HostName("h3")))

    assert list(build_results_of(left).items()) == [
        ("h2", BuildResult.RESCHEDULED_BY_POLICY),
        ("h3", BuildResult.RESCHEDULED_BY_POLICY),
    ]


def test_what_is_no_build_has_no_result() -> None:
    reboot = records.operation("r", records.instance(), flow="instance.reboot", phase=Phase.SUCCEEDED)

    assert build_results_of(reboot) == {}
