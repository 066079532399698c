"""Security groups for tests of what is not about them."""

from tasks.group_requests import GroupDoor
from taskvisor.model.ids import OperationId
from tests.support.fleet import Fleet
from tests.support.images import PlainAnswers


def make_group(fleet: Fleet, name: str) -> None:
    """A security group is there whose ports hear from each other."""
    fields = {"name": name, "rules": [{"direction": "ingress", "remote_group": name}]}
    GroupDoor(store=fleet.store, answers=PlainAnswers()).create(OperationId(f"group-{name}"), fields)
