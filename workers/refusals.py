"""What the sender of a message that Celery can't take is told, where his request's id can be read: Celery never saw it, and
would tell him nothing.

Pure. It must never know Redis, or whether anybody waits.
"""

import json
from datetime import UTC, datetime

from taskvisor.model.errors import Refused
from taskvisor.model.outcome import OutcomeRecord, result_key_for
from workers.inflight import NO_ANSWER, Answer

ADVICE = "see docs/producers.md for what a message is made of, and send it again under the same id"


def refusal_of(request_id: str | None, reason: str, *, keep_s: int | None) -> Answer:
    """A FAILURE, as Celery's result back end would store it for a request that was refused; none where one of the two is None."""
    if request_id is None or keep_s is None:
        return NO_ANSWER
    outcome: OutcomeRecord = {
        "status": "FAILURE",
        "result": {
            "exc_type": Refused.__name__,
            "exc_message": [f"the message can't be taken: {reason}; {ADVICE}"],
            "exc_module": Refused.__module__,
        },
        "traceback": None,
        "children": [],
        "date_done": datetime.now(UTC).isoformat(),
        "task_id": request_id,
    }
    return Answer(key=result_key_for(request_id), payload=json.dumps(outcome), keep_s=keep_s)
