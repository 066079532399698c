"""What the caller, or what is built from, leaves no choice about: the host itself, its labels, its zone, who refused before."""

from collections.abc import Mapping

from taskvisor.compute.placement.ask import Ask, Judge, Refusal
from taskvisor.model.records import Host


def is_the_host_asked_for(ask: Ask) -> Judge | None:
    if ask.host is None:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.name == ask.host:
            return None
        return Refusal(
            reason=f"only host {ask.host} was asked for", remedy="ask for no host, or for this one", distance=3
        )

    return judge


def has_the_image(ask: Ask) -> Judge | None:
    if ask.image_host is None:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.name == ask.image_host:
            return None
        return Refusal(
            reason=f"the image lies on host {ask.image_host} only",
            remedy="copy its file to where all hosts read it, and register it by that URL",
            distance=2,
        )

    return judge


def has_not_refused(ask: Ask) -> Judge | None:
    if not ask.excluded:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.name not in ask.excluded:
            return None
        return Refusal(
            reason="it said already that the guest does not fit",
            remedy="`taskvisor ops show` has what it said; ask anew when that is put right",
        )

    return judge


def is_in_the_zone(ask: Ask) -> Judge | None:
    if ask.zone is None:
        return None

    def judge(host: Host) -> Refusal | None:
        zone = host.zone
        if zone == ask.zone:
            return None
        where = "in no zone" if zone is None else f"in zone {zone}"
        return Refusal(
            reason=f"it is {where}, and {ask.zone} was asked for",
            remedy=f"ask for no zone, or put {host.name} into an aggregate of that zone (`taskvisor aggregate add-host`)",
            distance=2,
        )

    return judge


def is_labelled(ask: Ask) -> Judge | None:
    if not ask.required_labels and not ask.forbidden_labels:
        return None

    def judge(host: Host) -> Refusal | None:
        lacking = [label for label in ask.required_labels if not _bears(host.labels, label)]
        too_much = [label for label in ask.forbidden_labels if _bears(host.labels, label)]
        if not lacking and not too_much:
            return None
        reasons = [f"it lacks label {label}" for label in lacking] + [f"it bears label {label}" for label in too_much]
        words = [*lacking, *(f"{label.partition('=')[0]}-" for label in too_much)]
        return Refusal(
            reason="; ".join(reasons),
            remedy=f"taskvisor host label {host.name} {' '.join(words)}",
            distance=float(len(words)),
        )

    return judge


def _bears(labels: Mapping[str, str], label: str) -> bool:
    key, equals, value = label.partition("=")
    return key in labels and (not equals or labels[key] == value)
