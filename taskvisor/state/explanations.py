"""Why a build was refused by every host: kept for a while under its id, for those who ask, as its caller's result is.

A build that was let in has this in its operation; one that was not has no record.
"""

from typing import TYPE_CHECKING

from taskvisor.model.ids import OperationId
from taskvisor.model.placement import Explanation
from taskvisor.state.codec import decode, encode
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

KEEP_S = 86_400


class Explanations:
    """Notes that expire. Losing one costs an explanation and nothing else."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def note(self, operation_id: OperationId, explanation: Explanation) -> None:
        with asking(f"note why no host takes operation {operation_id}"):
            self._client.set(self._keys.why(operation_id), encode(explanation), ex=KEEP_S)

    def read(self, operation_id: OperationId) -> Explanation | None:
        """None: no build of that id was refused by every host lately."""
        with asking(f"ask why no host takes operation {operation_id}"):
            text = self._client.get(self._keys.why(operation_id))
        return decode(str(text), Explanation, f"explanation of operation {operation_id}") if text else None
