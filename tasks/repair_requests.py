"""Requests to mend what `taskvisor verify` has found, one finding each. The records are mended here; a host is asked to look for
itself.

Invariant: a finding that is not there any more is left alone, and said to be; nothing is done on missing knowledge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from tasks.door import Already
from tasks.guest_wants import claim_of
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.compute.repairs import Situation, repair_for
from taskvisor.model.errors import Refused
from taskvisor.model.finding import AuditLimits
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.records import Image
from taskvisor.model.repair import AskRemoval, ByHand, HostRepair, RecordRepair, RepairSpec, SendOn
from taskvisor.model.spec import parse_spec

log = structlog.get_logger(__name__)

AskHost = Callable[[HostName, OperationId, RepairSpec], None]
"""Asks the host to mend the finding under the request's own id: what it answers is the request's result."""


@dataclass(frozen=True, kw_only=True)
class RepairDoor:
    """Lets repairs into one store."""

    store: Store
    now: Callable[[], float]
    limits: AuditLimits
    answers: Answers
    launch: Callable[[Operation], None]
    ask_host: AskHost
    ask_removal: Callable[[Image], None]

    def repair(self, request_id: OperationId, asked_for: dict[str, Any]) -> Already | Answered:
        """The finding is mended, or its host was asked to. The same again finds nothing to do.

        Refused, with what to do by hand, for what is not safe to mend.
        """
        require_usable_id(self.store, request_id)
        asked = parse_spec(RepairSpec, asked_for)
        return looking_again(f"{asked.code.value} {asked.subject}", lambda: self._look(request_id, asked))

    def _look(self, request_id: OperationId, asked: RepairSpec) -> Already | Answered:
        now = self.now()
        situation = Situation(
            records=self.store.survey.read(now),
            now=now,
            limits=self.limits,
            claim_of=lambda instance: claim_of(instance, self.store.resources),
            request_id=request_id,
        )
        match repair_for(asked, situation):
            case None:
                return Already(result=not_there(asked))
            case ByHand(why=why):
                raise Refused(f"{asked.code.value} {asked.subject}: {why}")
            case RecordRepair() as repair:
                result = mended(asked, repair.done)
                self.store.repairs.carry_out(repair, self.answers.answer_for(request_id, result))
                log.warning("finding_mended", code=asked.code.value, subject=asked.subject, done=repair.done)
                return Answered()
            case HostRepair(host=host):
                self.ask_host(host, request_id, asked)
                return Answered()
            case SendOn(done=done, operation=operation):
                self.launch(operation)
            case AskRemoval(done=done, image=image):
                self.ask_removal(image)
        return Already(result=mended(asked, done))


def mended(asked: RepairSpec, done: str) -> dict[str, Any]:
    """What the caller is told of a finding that was mended."""
    return {"code": asked.code.value, "subject": asked.subject, "host": asked.host, "mended": True, "done": done}


def not_there(asked: RepairSpec) -> dict[str, Any]:
    """What the caller is told of a finding that is none any more."""
    done = "nothing: it is not so any more"
    return {"code": asked.code.value, "subject": asked.subject, "host": asked.host, "mended": False, "done": done}
