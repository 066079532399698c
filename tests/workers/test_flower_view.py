"""What Flower shows of tasks: words that a person can read, and nothing that a message could break."""

from types import SimpleNamespace

import pytest
from celery.events.state import State

from workers.flower_view import SHOWN_LIMIT, arguments_shown, shown

WORKER = "steps@kvm1"


def test_a_steps_arguments_are_its_instance() -> None:
    assert arguments_shown("{'instance': 'web1', 'operation': '3f2a'}") == "web1"


def test_a_requests_arguments_begin_with_its_subject() -> None:
    assert (
        arguments_shown("{'name': 'web1', 'image': 'debian-12', 'flavor': {'vcpus': 1, 'disk_gib': 2}}")
        == "web1, image=debian-12, flavor=vcpus:1-disk_gib:2"
    )


@pytest.mark.parametrize("text", ["{}", "[1]", "{'name': 'web1', 'user_data': '…", "nonsense", "(" * 500, ""])
def test_what_is_not_understood_is_shown_as_it_is(text: str) -> None:
    assert str(arguments_shown(text))[: SHOWN_LIMIT - 1] in ("", text[: SHOWN_LIMIT - 1])


def test_no_cell_is_longer_than_a_line() -> None:
    assert len(str(arguments_shown(repr({"name": "x" * 1000})))) == SHOWN_LIMIT


@pytest.mark.parametrize(
    ("exception", "seen"),
    [
        ("Refused('there is no image')", "Refused: there is no image"),
        ("Refused(\"name: 'web1' is taken\",)", "Refused: name: 'web1' is taken"),
        ("NoCapacity: place: no host fits", "NoCapacity: place: no host fits"),
        ("KeyError(1, 2)", "KeyError(1, 2)"),
    ],
)
def test_a_failure_shows_its_class_and_message_where_a_result_would_be(exception: str, seen: str) -> None:
    task = SimpleNamespace(kwargs="{}", exception=exception, result=None)
    assert shown(task).result == seen


def test_a_task_without_a_result_shows_none() -> None:
    assert shown(SimpleNamespace(kwargs="{}", exception=None, result="None")).result == ""


def event(kind: str, at: float, **fields: object) -> dict[str, object]:
    return {
        "type": kind,
        "uuid": "op-1",
        "hostname": WORKER,
        "timestamp": at,
        "local_received": at,
        "clock": int(at),
        "utcoffset": 0,
        "pid": 1,
        **fields,
    }


def test_flower_takes_our_event_for_the_state_progress_until_the_end() -> None:
    state = State()
    state.event(event("task-received", 1, name="instance.build", kwargs="{'name': 'web1'}"))
    state.event(event("task-started", 2))
    state.event(event("task-progress", 3, result="2 of 5, next: render_xml"))
    task = state.tasks["op-1"]
    assert (task.state, task.result) == ("PROGRESS", "2 of 5, next: render_xml")

    state.event(event("task-succeeded", 4, result="web1 on kvm1", runtime=1.0))
    assert (task.state, task.result) == ("SUCCESS", "web1 on kvm1")
