"""What callers may ask of hosts, aggregates and server groups, and of several builds at once, validated. As `spec`."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from taskvisor.model.server_group import GroupPolicy
from taskvisor.model.spec import NAME_PATTERN, BuildSpec, Name, Spec

LABELS_LIMIT = 64
PROPERTIES_LIMIT = 128
AGGREGATE_HOSTS_LIMIT = 10_000
BATCH_LIMIT = 100
LABEL_KEY = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"

HostRef = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$")]
Key = Annotated[str, StringConstraints(pattern=rf"^{LABEL_KEY}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,63}$")]
PropertyKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,255}$")]
PropertyValue = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
AggregateName = Annotated[str, StringConstraints(pattern=rf"^{NAME_PATTERN}$")]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]


class HostSpec(Spec):
    """Which host, by name."""

    host: HostRef


class DisableHostSpec(HostSpec):
    """It takes no new instances; the reason is shown wherever it is passed over."""

    reason: Reason


class LabelHostSpec(HostSpec):
    """Labels that the host is to bear, and keys of those that it is to bear no more."""

    labels: Annotated[dict[Key, LabelValue], Field(max_length=LABELS_LIMIT, default_factory=dict)]
    remove: Annotated[tuple[Key, ...], Field(max_length=LABELS_LIMIT, strict=False)] = ()

    @model_validator(mode="after")
    def _says_one_thing(self) -> "LabelHostSpec":
        if both := sorted(self.labels.keys() & set(self.remove)):
            raise ValueError(f"remove: {both[0]}: is given a value too; leave one out")
        return self


def _distinct(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(hosts)))


class AggregateSpec(Spec):
    """What `aggregate.create` makes. `availability_zone` among the properties makes its hosts a zone."""

    name: AggregateName
    hosts: Annotated[
        tuple[HostRef, ...], Field(max_length=AGGREGATE_HOSTS_LIMIT, strict=False), AfterValidator(_distinct)
    ] = ()
    properties: Annotated[dict[PropertyKey, PropertyValue], Field(max_length=PROPERTIES_LIMIT, default_factory=dict)]


class AggregateRefSpec(Spec):
    """Which aggregate, by name."""

    aggregate: AggregateName


class AggregateHostSpec(AggregateRefSpec, HostSpec):
    """A host that comes into an aggregate, or leaves it."""


class SetAggregateSpec(AggregateRefSpec):
    """Properties that the aggregate is to have, and keys of those that it is to have no more."""

    properties: Annotated[dict[PropertyKey, PropertyValue], Field(max_length=PROPERTIES_LIMIT, default_factory=dict)]
    remove: Annotated[tuple[PropertyKey, ...], Field(max_length=PROPERTIES_LIMIT, strict=False)] = ()


class ServerGroupSpec(Spec):
    """What `server_group.create` makes. `servers_per_host` is for anti-affinity: so many of the group may be on one host."""

    name: Name
    policy: Annotated[GroupPolicy, Field(strict=False)]
    servers_per_host: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def _has_a_use(self) -> "ServerGroupSpec":
        if self.servers_per_host != 1 and self.policy is not GroupPolicy.ANTI_AFFINITY:
            raise ValueError(
                f"servers_per_host: {self.servers_per_host}: goes with anti-affinity only, not {self.policy}"
            )
        return self


class ServerGroupRefSpec(Spec):
    """Which server group: its name or its id."""

    server_group: Annotated[str, Field(min_length=1, max_length=63)]


class BatchSpec(BuildSpec):
    """Several builds of one kind, as `instance.build_many` makes them: NAME-1, NAME-2, …

    `min_count`: fewer than that are none at all; None: all of them or none.
    """

    count: Annotated[int, Field(ge=1, le=BATCH_LIMIT)]
    min_count: Annotated[int, Field(ge=1, le=BATCH_LIMIT)] | None = None

    @model_validator(mode="after")
    def _can_be_several(self) -> "BatchSpec":
        if self.min_count is not None and self.min_count > self.count:
            raise ValueError(f"min_count: {self.min_count}: is more than count {self.count}")
        longest = f"{self.name}-{self.count}"
        if not re.fullmatch(NAME_PATTERN, longest):
            raise ValueError(f"name: {self.name!r}: {longest!r} is too long; 63 characters are the most")
        if self.count == 1:
            return self
        for field in ("mac", "address", "address6"):
            if any(getattr(nic, field) for nic in self.nics):
                raise ValueError(f"networks: {field}: {self.count} instances can't have the same; leave it out")
        if any(not volume.shareable for volume in self.volumes):
            raise ValueError(f"volumes: {self.count} instances can't have the same; leave them out, or say shareable")
        return self

    @property
    def least(self) -> int:
        """So few will do."""
        return self.count if self.min_count is None else self.min_count

    def member(self, number: int) -> dict[str, object]:
        """The fields of build number `number`, from 1, as `BuildSpec` has them."""
        fields = self.model_dump(mode="json", exclude={"count", "min_count"})
        return {**fields, "name": f"{self.name}-{number}"}
