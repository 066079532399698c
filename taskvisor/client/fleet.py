"""The part of the Python client that is about hosts, aggregates, server groups, batches of builds, and plans of one."""

from __future__ import annotations  # as in `taskvisor`

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskvisor.client.asks import Asks
from taskvisor.client.handle import Handle

if TYPE_CHECKING:
    from taskvisor.fields import DeletedRecordView
    from taskvisor.model.fleet_views import (
        AggregateView,
        BatchView,
        DeletedAggregateView,
        HostLabelsView,
        HostStateView,
        PlanView,
        ServerGroupView,
    )


class FleetRequests(Asks):
    """Mixed into `Taskvisor`, whose rules hold here: the same id is the same request."""

    def build_many(
        self, count: int, *, min_count: int | None = None, operation_id: str | None = None, **fields: Any
    ) -> Handle[BatchView]:
        """`count` instances NAME-1, NAME-2, … of one kind, with the fields that `build` takes; all of them, or at least
        `min_count`. The result lists the operations that were let in; each is waited for by `handle(id)`.
        """
        asked = {"count": count, "min_count": min_count, **fields}
        return self._ask("instance.build_many", asked, operation_id)

    def plan(self, *, operation_id: str | None = None, **fields: Any) -> Handle[PlanView]:
        """What `build` with these fields would come to now: its host and why, disks, NICs, the definition. Nothing is touched."""
        return self._ask("instance.plan", fields, operation_id)

    def enable_host(self, host: str, *, operation_id: str | None = None) -> Handle[HostStateView]:
        """The host takes new instances again."""
        return self._ask("host.enable", {"host": host}, operation_id)

    def disable_host(self, host: str, reason: str, *, operation_id: str | None = None) -> Handle[HostStateView]:
        """The host takes no new instances; what runs there runs on."""
        return self._ask("host.disable", {"host": host, "reason": reason}, operation_id)

    def label_host(
        self,
        host: str,
        labels: Mapping[str, str] | None = None,
        *,
        remove: Sequence[str] = (),
        operation_id: str | None = None,
    ) -> Handle[HostLabelsView]:
        """The host bears these labels beside its others, and those of the keys in `remove` no more."""
        return self._ask(
            "host.label", {"host": host, "labels": dict(labels or {}), "remove": list(remove)}, operation_id
        )

    def create_aggregate(
        self,
        name: str,
        *,
        hosts: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        operation_id: str | None = None,
    ) -> Handle[AggregateView]:
        """A set of hosts with properties; `availability_zone` among them makes its hosts a zone."""
        fields = {"name": name, "hosts": list(hosts), "properties": dict(properties or {})}
        return self._ask("aggregate.create", fields, operation_id)

    def delete_aggregate(self, aggregate: str, *, operation_id: str | None = None) -> Handle[DeletedAggregateView]:
        """The aggregate is gone. Refused while a host is in it."""
        return self._ask("aggregate.delete", {"aggregate": aggregate}, operation_id)

    def add_aggregate_host(
        self, aggregate: str, host: str, *, operation_id: str | None = None
    ) -> Handle[AggregateView]:
        """The host is in the aggregate. Refused when it would be in two zones."""
        return self._ask("aggregate.add_host", {"aggregate": aggregate, "host": host}, operation_id)

    def remove_aggregate_host(
        self, aggregate: str, host: str, *, operation_id: str | None = None
    ) -> Handle[AggregateView]:
        """The host is not in the aggregate."""
        return self._ask("aggregate.remove_host", {"aggregate": aggregate, "host": host}, operation_id)

    def set_aggregate(
        self,
        aggregate: str,
        properties: Mapping[str, str] | None = None,
        *,
        remove: Sequence[str] = (),
        operation_id: str | None = None,
    ) -> Handle[AggregateView]:
        """The aggregate has these properties beside its others, and those of the keys in `remove` no more."""
        fields = {"aggregate": aggregate, "properties": dict(properties or {}), "remove": list(remove)}
        return self._ask("aggregate.set", fields, operation_id)

    def create_server_group(
        self, name: str, policy: str, *, servers_per_host: int | None = None, operation_id: str | None = None
    ) -> Handle[ServerGroupView]:
        """A group whose guests are beside each other or apart: affinity, anti-affinity, soft-affinity or soft-anti-affinity."""
        fields = {"name": name, "policy": policy, "servers_per_host": servers_per_host}
        return self._ask("server_group.create", fields, operation_id)

    def delete_server_group(self, server_group: str, *, operation_id: str | None = None) -> Handle[DeletedRecordView]:
        """The group, by name or id, is gone. Refused while an instance is in it."""
        return self._ask("server_group.delete", {"server_group": server_group}, operation_id)
