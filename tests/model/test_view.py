"""What callers see of a record: never keys or user data."""

import json
from dataclasses import replace

import pytest

from taskvisor.model import errors
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import Retryable, TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.records import Fault
from taskvisor.model.view import image_view, instance_view
from tests.support.records import image, instance


def test_keys_and_user_data_stay_out_of_an_instances_view() -> None:
    secretive = replace(instance(), ssh_keys=("ssh-ed25519 AAAAsecret",), user_data="password: secret")

    assert "secret" not in json.dumps(instance_view(secretive))


def test_an_instances_view_is_plain_json() -> None:
    view = instance_view(instance())

    assert json.loads(json.dumps(view)) == view
    assert (view["vm_state"], view["power_state"], view["addresses"], view["fault"]) == (
        "active",
        "running",
        ["10.152.0.2"],
        None,
    )


def test_a_fault_is_one_sentence() -> None:
    fault = Fault(code="Refused", message="no such image", step="fetch_image", operation_id=OperationId("op"), at=1.0)

    assert instance_view(replace(instance(), fault=fault))["fault"] == "Refused at fetch_image: no such image"


@pytest.mark.parametrize(
    ("backend", "shown"),
    [(None, None), (DiskBackend(), "qcow2"), (DiskBackend(kind=BackendKind.LVM, pool="fast"), "lvm:fast")],
)
def test_where_its_disks_lie_is_one_word(backend: DiskBackend | None, shown: str | None) -> None:
    assert instance_view(replace(instance(), disk_backend=backend))["disks"] == shown


def test_an_images_view_is_plain_json() -> None:
    view = image_view(image())

    assert json.loads(json.dumps(view)) == view
    assert (view["name"], view["host"]) == ("gold", "h1")


ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TaskvisorError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_errors_code_is_its_class_and_its_text_the_message(kind: type[TaskvisorError]) -> None:
    error = kind("what could not be done")

    assert (error.code, str(error)) == (kind.__name__, "what could not be done")


def test_not_being_able_to_ask_is_a_reason_to_ask_again() -> None:
    assert issubclass(errors.CannotAsk, Retryable)
