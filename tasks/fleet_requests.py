"""Requests about hosts, aggregates and server groups: what is said of hosts, and who belongs together. No host is touched.

Invariant: what a caller is told is written together with the record that it is about.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tasks.door import Already
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.model.aggregate import Aggregate
from taskvisor.model.errors import Refused
from taskvisor.model.fleet_spec import (
    LABELS_LIMIT,
    PROPERTIES_LIMIT,
    AggregateHostSpec,
    AggregateRefSpec,
    AggregateSpec,
    DisableHostSpec,
    HostSpec,
    LabelHostSpec,
    ServerGroupRefSpec,
    ServerGroupSpec,
    SetAggregateSpec,
)
from taskvisor.model.fleet_views import aggregate_view, server_group_view
from taskvisor.model.ids import HostName, OperationId, server_group_id_for
from taskvisor.model.server_group import ServerGroup
from taskvisor.model.spec import parse_spec
from taskvisor.state.server_groups import GROUPS_LIMIT

Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class HostDoor:
    """Lets requests about hosts into one store."""

    store: Store
    answers: Answers

    def enable(self, request_id: OperationId, fields: Fields) -> Answered:
        """The host takes new instances again, and its failed builds are counted from 0."""
        require_usable_id(self.store, request_id)
        host = HostName(parse_spec(HostSpec, fields).host)
        answer = self.answers.answer_for(request_id, {"name": host, "disabled_reason": None})
        self.store.host_changes.enable(host, answer)
        return Answered()

    def disable(self, request_id: OperationId, fields: Fields) -> Answered:
        """The host takes no new instances, for that reason; what runs there runs on."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(DisableHostSpec, fields)
        answer = self.answers.answer_for(request_id, {"name": spec.host, "disabled_reason": spec.reason})
        self.store.host_changes.disable(HostName(spec.host), spec.reason, answer)
        return Answered()

    def label(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The host bears these labels beside its others, and some no more."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(LabelHostSpec, fields)
        host = HostName(spec.host)

        def look() -> Already | Answered:
            former, seen = self.store.host_changes.read_labels(host)
            labels = {key: value for key, value in {**former, **spec.labels}.items() if key not in spec.remove}
            if len(labels) > LABELS_LIMIT:
                raise Refused(f"labels: host {host} would bear {len(labels)}; {LABELS_LIMIT} are the most")
            result = {"name": host, "labels": labels}
            if labels == former and seen is not None:
                return Already(result={**result, "already": True})
            self.store.host_changes.label(host, labels, seen, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"host {host}", look)


@dataclass(frozen=True, kw_only=True)
class AggregateDoor:
    """Lets requests about aggregates into one store."""

    store: Store
    answers: Answers

    def create(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The aggregate is recorded. The same again is the same; Refused for another of that name."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(AggregateSpec, fields)
        hosts = tuple(HostName(host) for host in spec.hosts)
        asked = Aggregate(name=spec.name, hosts=hosts, properties=dict(spec.properties))

        def look() -> Already | Answered:
            seen = self.store.aggregates.read()
            there = seen.find(asked.name)
            if there == asked:
                return Already(result={**aggregate_view(asked), "already": True})
            if there is not None:
                raise Refused(f"name: {asked.name!r} is the name of another aggregate; change that, or choose another")
            answer = self.answers.answer_for(request_id, aggregate_view(asked))
            self.store.aggregate_changes.write(asked, seen, answer)
            return Answered()

        return looking_again(f"aggregate {asked.name}", look)

    def delete(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The aggregate is gone. Refused while a host is in it."""
        require_usable_id(self.store, request_id)
        name = parse_spec(AggregateRefSpec, fields).aggregate
        result = {"name": name, "state": "deleted"}

        def look() -> Already | Answered:
            seen = self.store.aggregates.read()
            there = seen.find(name)
            if there is None:
                return Already(result={**result, "already": True})
            self.store.aggregate_changes.delete(there, seen, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"aggregate {name}", look)

    def add_host(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The host is in the aggregate."""
        spec = parse_spec(AggregateHostSpec, fields)
        host = HostName(spec.host)
        return self._change(
            request_id, spec.aggregate, lambda there: replace(there, hosts=tuple(sorted({*there.hosts, host})))
        )

    def remove_host(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The host is not in the aggregate. What runs there runs on."""
        spec = parse_spec(AggregateHostSpec, fields)
        return self._change(
            request_id,
            spec.aggregate,
            lambda there: replace(there, hosts=tuple(host for host in there.hosts if host != spec.host)),
        )

    def set_properties(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The aggregate has these properties beside its others, and some no more."""
        spec = parse_spec(SetAggregateSpec, fields)

        def changed(there: Aggregate) -> Aggregate:
            properties = {**there.properties, **spec.properties}
            kept = {key: value for key, value in properties.items() if key not in spec.remove}
            if len(kept) > PROPERTIES_LIMIT:
                raise Refused(f"properties: it would have {len(kept)}; {PROPERTIES_LIMIT} are the most")
            return replace(there, properties=kept)

        return self._change(request_id, spec.aggregate, changed)

    def _change(
        self, request_id: OperationId, name: str, changed: Callable[[Aggregate], Aggregate]
    ) -> Already | Answered:
        require_usable_id(self.store, request_id)

        def look() -> Already | Answered:
            seen = self.store.aggregates.read()
            there = seen.find(name)
            if there is None:
                raise Refused(f"aggregate: {name!r}: there is no such aggregate; see `taskvisor aggregate list`")
            wanted = changed(there)
            if wanted == there:
                return Already(result={**aggregate_view(there), "already": True})
            answer = self.answers.answer_for(request_id, aggregate_view(wanted))
            self.store.aggregate_changes.write(wanted, seen, answer)
            return Answered()

        return looking_again(f"aggregate {name}", look)


@dataclass(frozen=True, kw_only=True)
class ServerGroupDoor:
    """Lets requests about server groups into one store."""

    store: Store
    answers: Answers

    def create(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The group is recorded. The same again is the same; Refused for another of that name."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(ServerGroupSpec, fields)
        asked = ServerGroup(
            id=server_group_id_for(request_id),
            name=spec.name,
            policy=spec.policy,
            servers_per_host=spec.servers_per_host,
        )

        def look() -> Already | Answered:
            found = self.store.server_groups.look_up(asked.name)
            if found is not None:
                return _again(found[0], asked)
            if self.store.server_groups.count() >= GROUPS_LIMIT:
                raise Refused(f"name: there are {GROUPS_LIMIT} server groups, and may be no more; delete one first")
            answer = self.answers.answer_for(request_id, server_group_view(asked))
            self.store.server_group_changes.create(asked, answer)
            return Answered()

        return looking_again(f"server group {asked.name}", look)

    def delete(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The group is gone. Refused while an instance is in it."""
        require_usable_id(self.store, request_id)
        wanted = parse_spec(ServerGroupRefSpec, fields).server_group

        def look() -> Already | Answered:
            found = self.store.server_groups.look_up(wanted)
            if found is None:
                return Already(result={"id": wanted, "name": wanted, "state": "deleted", "already": True})
            group = found[0]
            result = {"id": group.id, "name": group.name, "state": "deleted"}
            self.store.server_group_changes.delete(group, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"server group {wanted}", look)


def _again(there: ServerGroup, asked: ServerGroup) -> Already:
    """The answer to who creates what is there. Refused when it is something else."""
    if replace(there, id=asked.id) != asked:
        raise Refused(
            f"name: {there.name!r} is the name of another server group ({there.policy}); choose another, or delete that first"
        )
    view = dict(server_group_view(there))
    return Already(result=view if there.id == asked.id else {**view, "already": True})
