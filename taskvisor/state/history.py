"""The moves of instances' states: added by the transaction that writes the record, read newest first.

An entry is "<vm_state> <task_state or -> <power_state> <Cause as JSON>". Which states it moved from is what the entry before it
says: the script adds one only when the three differ from those of the last (`transaction.py: moved`), so no caller need know
the record that was there.
"""

from typing import TYPE_CHECKING, cast

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.history import MOVES_KEPT, Cause, Move, States, states_of
from taskvisor.model.ids import InstanceId
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, TaskState, VmState
from taskvisor.state.codec import decode, encode
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction

if TYPE_CHECKING:
    import redis

NO_TASK = "-"


class Histories:
    """Reads them. What an older version wrote last has none; it begins with the next write."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read(self, instance_id: InstanceId) -> tuple[Move, ...]:
        """The instance's last moves, newest first, at most MOVES_KEPT; none when there is no such instance.

        UnreadableRecord when an entry does not parse.
        """
        with asking(f"read the history of instance {instance_id}"):
            texts = cast("list[str]", self._client.lrange(self._keys.history(instance_id), 0, MOVES_KEPT))
        read = [_parsed(text, instance_id) for text in texts]
        moves = (
            Move(former=None if older is None else older[0], states=states, cause=cause)
            for (states, cause), older in zip(read, [*read[1:], None], strict=False)
        )
        return tuple(moves)[:MOVES_KEPT]


def record_move(tx: Transaction, keys: Keys, instance: Instance, cause: Cause) -> None:
    """Add to a transaction: if the instance's states differ from the last that were recorded, that is a move.

    One more than is shown is kept: it says where the oldest shown came from.
    """
    states = states_of(instance)
    text = (
        f"{states.vm_state.value} {states.task_state.value if states.task_state else NO_TASK} {int(states.power_state)}"
    )
    tx.do("moved", keys.history(instance.id), text, encode(cause), MOVES_KEPT)


def _parsed(text: str, instance_id: InstanceId) -> tuple[States, Cause]:
    what = f"history of instance {instance_id}"
    try:
        vm_state, task_state, power_state, cause = text.split(" ", 3)
        states = States(
            vm_state=VmState(vm_state),
            task_state=None if task_state == NO_TASK else TaskState(task_state),
            power_state=PowerState(int(power_state)),
        )
    except ValueError as error:
        raise UnreadableRecord(f"{what}: {text[:80]!r} is no entry of it: {error}") from error
    return states, decode(cause, Cause, what)
