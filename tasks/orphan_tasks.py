"""The part of the edge that is about orphans: the request to keep one. A host's look for them is in the timetable."""

from collections.abc import Mapping

from tasks.node import Asking
from tasks.orphan_requests import OrphanDoor
from tasks.telling import Teller


def orphan_requests(teller: Teller) -> Mapping[str, Asking]:
    """What is asked of no host, by the task's name."""
    return {
        "fleet.keep_orphan": lambda door, request_id, fields: OrphanDoor(store=door.store, answers=teller).keep(
            request_id, fields
        )
    }
