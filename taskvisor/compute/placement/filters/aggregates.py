"""What the aggregates of a host let on it: for whom it is kept, and which flavors go there."""

from taskvisor.compute.placement.ask import Ask, Judge, Refusal
from taskvisor.compute.placement.requirement import meets
from taskvisor.model.records import Host


def is_for_the_project(ask: Ask) -> Judge:
    """Tenant isolation: hosts that are kept for some projects take guests of no other. A host in several such aggregates is for
    the projects of all of them.
    """

    def judge(host: Host) -> Refusal | None:
        if not host.aggregates:
            return None
        kept = frozenset[str]().union(*(aggregate.projects for aggregate in host.aggregates))
        if not kept or ask.project in kept:
            return None
        return Refusal(
            reason=f"it is kept for {_names(kept)}, and the guest is project {ask.project}'s",
            remedy=f"add {ask.project} to filter_tenant_id of its aggregate (`taskvisor aggregate set`)",
            distance=2,
        )

    return judge


def has_the_aggregate_properties(ask: Ask) -> Judge | None:
    """Nova's `aggregate_instance_extra_specs:` of a flavor: each must be met by a property of one of the host's aggregates."""
    if not ask.aggregate_specs:
        return None

    def judge(host: Host) -> Refusal | None:
        wrong = [(key, wanted) for key, wanted in ask.aggregate_specs if not _is_met(host, key, wanted)]
        if not wrong:
            return None
        reasons = [f"no aggregate of it has {key} as {wanted!r}" for key, wanted in wrong]
        return Refusal(
            reason="; ".join(reasons),
            remedy=f"put {host.name} into an aggregate that has (`taskvisor aggregate add-host`, `aggregate set`)",
            distance=2.0 * len(wrong),
        )

    return judge


def _is_met(host: Host, key: str, wanted: str) -> bool:
    found = (aggregate.properties[key] for aggregate in host.aggregates if key in aggregate.properties)
    return any(meets(word.strip(), wanted) for text in found for word in text.split(","))


def _names(projects: frozenset[str]) -> str:
    named = sorted(projects)
    return f"project {named[0]}" if len(named) == 1 else f"projects {', '.join(named)}"
