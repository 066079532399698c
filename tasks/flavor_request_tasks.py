"""The part of the edge that is about flavors: which requests there are. What is done is in `flavor_requests`."""

from collections.abc import Mapping

from tasks.door import Door
from tasks.flavor_requests import FlavorDoor
from tasks.node import Asking
from tasks.request_looks import Answers


def flavor_requests(answers: Answers) -> Mapping[str, Asking]:
    """By the task's name."""

    def flavors(door: Door) -> FlavorDoor:
        return FlavorDoor(store=door.store, answers=answers, now=door.now)

    return {
        "flavor.create": lambda door, *asked: flavors(door).create(*asked),
        "flavor.delete": lambda door, *asked: flavors(door).delete(*asked),
        "flavor.set": lambda door, *asked: flavors(door).set_specs(*asked),
        "flavor.unset": lambda door, *asked: flavors(door).unset_specs(*asked),
        "flavor.add_access": lambda door, *asked: flavors(door).add_access(*asked),
        "flavor.remove_access": lambda door, *asked: flavors(door).remove_access(*asked),
    }
