"""Requests about what is in quarantine: an operator wants some of it to stay. Touches no host."""

from dataclasses import dataclass, replace
from typing import Any

from tasks.door import Already
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.orphan import KeepSpec, Orphan
from taskvisor.model.spec import parse_spec


@dataclass(frozen=True, kw_only=True)
class OrphanDoor:
    """Lets such requests into one store."""

    store: Store
    answers: Answers

    def keep(self, request_id: OperationId, asked_for: dict[str, Any]) -> Already | Answered:
        """What is in quarantine under that name, or of the instance of that id, stays, on the one host that has it.

        The same again is the same. Refused when nothing of it is in quarantine, or several hosts have some and none is named.
        """
        require_usable_id(self.store, request_id)
        asked = parse_spec(KeepSpec, asked_for)
        return looking_again(f"orphan {asked.orphan}", lambda: self._look(request_id, asked))

    def _look(self, request_id: OperationId, asked: KeepSpec) -> Already | Answered:
        hosts = [HostName(asked.host)] if asked.host else [host.name for host in self.store.hosts.list_hosts()]
        quarantines = [self.store.orphans.read(host) for host in hosts]
        having = [one for one in quarantines if any(_is_named(orphan, asked.orphan) for orphan in one.orphans.values())]
        if not having:
            raise Refused(f"orphan: {asked.orphan!r} is nothing that is in quarantine; see `taskvisor orphans`")
        if len(having) > 1:
            raise Refused(f"orphan: {asked.orphan!r} is in quarantine on {len(having)} hosts; say on which")
        seen = having[0]
        named = {key: one for key, one in seen.orphans.items() if _is_named(one, asked.orphan)}
        result = {"kept": {seen.host: sorted(named)}}
        kept = {key: replace(one, kept=True) for key, one in named.items()}
        self.store.orphans.put(seen, {**seen.orphans, **kept}, self.answers.answer_for(request_id, result))
        return Answered()


def _is_named(orphan: Orphan, name: str) -> bool:
    return name in (orphan.stray.subject, orphan.stray.instance_id)
