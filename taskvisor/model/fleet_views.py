"""Hosts, aggregates, server groups and placements as callers see them: plain JSON, as in `view`."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from taskvisor.model.aggregate import Aggregate
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.placement import Choice, Explanation
from taskvisor.model.server_group import ServerGroup


class HostStateView(TypedDict):
    """`disabled_reason` None: it takes new instances."""

    name: str
    disabled_reason: str | None


class HostLabelsView(TypedDict):
    name: str
    labels: dict[str, str]
    already: NotRequired[bool]


class AggregateView(TypedDict):
    """`zone` None: its hosts are no zone."""

    name: str
    zone: str | None
    hosts: list[str]
    properties: dict[str, str]
    already: NotRequired[bool]


class DeletedAggregateView(TypedDict):
    """`state` is deleted; `already`: there was none. An aggregate has no id but its name."""

    name: str
    state: str
    already: NotRequired[bool]


class ServerGroupView(TypedDict):
    id: str
    name: str
    policy: str
    servers_per_host: int
    already: NotRequired[bool]


class ShownServerGroupView(ServerGroupView):
    """`members`: the host of each instance, by the instance's id."""

    members: dict[str, str]


class WeighedView(TypedDict):
    number: float
    share: float
    weight: float


class WeighedHostView(TypedDict):
    host: str
    score: float
    parts: dict[str, WeighedView]


class ChoiceView(TypedDict):
    """As `taskvisor.model.placement.Choice` has it."""

    hosts: int
    fitting: int
    refused: dict[str, int]
    left_out: int
    best: list[WeighedHostView]


class ExplanationView(TypedDict):
    """`refusals`: `host`, `rule`, `reason` and `remedy` of each."""

    refusals: list[dict[str, str]]
    choice: ChoiceView | None


class BatchMemberView(TypedDict):
    """`operation` is its build's id, by which it is waited for."""

    operation: str
    name: str
    id: str
    host: str


class BatchView(TypedDict):
    """What was let in of several builds; each is an operation of its own. `why_not_all` None: all of them were."""

    asked: int
    operations: list[BatchMemberView]
    why_not_all: str | None


class PlanView(TypedDict):
    """What a build would come to. `allocated`: what is not decided before a build is let in."""

    host: str
    placement: ExplanationView
    disks: list[dict[str, Any]]
    nics: list[dict[str, Any]]
    xml: str
    allocated: list[str]


def aggregate_view(aggregate: Aggregate) -> AggregateView:
    return {
        "name": aggregate.name,
        "zone": aggregate.zone,
        "hosts": list(aggregate.hosts),
        "properties": dict(aggregate.properties),
    }


def server_group_view(group: ServerGroup) -> ServerGroupView:
    return {
        "id": group.id,
        "name": group.name,
        "policy": group.policy.value,
        "servers_per_host": group.servers_per_host,
    }


def shown_server_group_view(group: ServerGroup, members: Mapping[InstanceId, HostName]) -> ShownServerGroupView:
    return {**server_group_view(group), "members": {str(member): str(host) for member, host in members.items()}}


def explanation_view(rows: tuple[Mapping[str, str], ...], choice: Choice | None) -> ExplanationView:
    """Why a host was chosen, or none."""
    return {"refusals": [dict(row) for row in rows], "choice": None if choice is None else _choice_view(choice)}


def view_of_explanation(explanation: Explanation) -> ExplanationView:
    return explanation_view(explanation.rows, explanation.choice)


def _choice_view(choice: Choice) -> ChoiceView:
    return {
        "hosts": choice.hosts,
        "fitting": choice.fitting,
        "refused": dict(choice.refused),
        "left_out": choice.left_out,
        "best": [
            {
                "host": one.host,
                "score": one.score,
                "parts": {
                    name: {"number": part.number, "share": part.share, "weight": part.weight}
                    for name, part in one.parts.items()
                },
            }
            for one in choice.best
        ],
    }
