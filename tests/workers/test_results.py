"""What Celery stores of a request says what is wrong and what to do, and shows nobody a traceback who made no bug."""

from collections.abc import Iterator

import pytest
from celery import Celery
from celery.exceptions import NotRegistered, TaskRevokedError

from taskvisor.model.errors import Refused
from workers import results
from workers.results import EXPIRED_TEXT, Backend, unknown_task_text

from .conftest import RedisServer


@pytest.fixture
def backend(transport_redis: RedisServer) -> Iterator[Backend]:
    """As a worker's app makes it."""
    app = Celery("results", set_as_current=False)
    app.loader.override_backends = {"redis": results.ALIAS}
    app.conf.result_backend = transport_redis.url
    app.conf.result_serializer = "json"
    made = app.backend
    assert isinstance(made, Backend)
    yield made
    app.close()


def test_a_refusal_is_stored_without_its_traceback(backend: Backend) -> None:
    backend.mark_as_failure(
        "x", Refused("name: missing; it must be given"), traceback="Traceback (most recent call last)"
    )

    meta = backend.get_task_meta("x")
    assert (meta["traceback"], str(meta["result"])) == (None, "name: missing; it must be given")


def test_a_bug_keeps_its_traceback(backend: Backend) -> None:
    backend.mark_as_failure("x", ZeroDivisionError("oh"), traceback="Traceback (most recent call last)")

    assert backend.get_task_meta("x")["traceback"] == "Traceback (most recent call last)"


def test_a_task_that_there_is_not_is_refused(backend: Backend) -> None:
    backend.mark_as_failure("x", NotRegistered("instance.bild"))

    result = backend.get_task_meta("x")["result"]
    assert type(result) is Refused
    assert str(result) == unknown_task_text("instance.bild")


def test_who_expired_and_who_was_revoked_are_told_apart(backend: Backend) -> None:
    backend.mark_as_revoked("late", "expired")
    backend.mark_as_revoked("unwanted", "revoked")

    late, unwanted = (backend.get_task_meta(one) for one in ("late", "unwanted"))
    assert (late["status"], type(late["result"]), str(late["result"])) == ("REVOKED", TaskRevokedError, EXPIRED_TEXT)
    assert str(unwanted["result"]) == "revoked"


def test_the_task_that_may_be_meant_is_named_if_one_is_near() -> None:
    assert "instance.reboot may be meant" in unknown_task_text("instance.rebot")
    assert "may be meant" not in unknown_task_text("shop.send_mail")
    assert len(unknown_task_text("x" * 100_000)) < 250
