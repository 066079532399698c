"""Requests about flavors: records only. No host is touched, and no instance: each holds the flavor that it was built with, whole.

Invariant: what a caller is told is written together with the record that it is about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.door import Already
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.model.errors import Refused
from taskvisor.model.flavor_record import FlavorRecord, flavor_view
from taskvisor.model.flavor_spec import (
    PROJECTS_LIMIT,
    FlavorAccessSpec,
    FlavorCreateSpec,
    FlavorRefSpec,
    FlavorSetSpec,
    FlavorUnsetSpec,
)
from taskvisor.model.flavors import flavor_of
from taskvisor.model.ids import FlavorId, OperationId, flavor_id_for
from taskvisor.model.spec import parse_spec
from virt.options import require_extra_specs


@dataclass(frozen=True, kw_only=True)
class FlavorDoor:
    """Lets requests about flavors into one store."""

    store: Store
    answers: Answers
    now: Callable[[], float]

    def create(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The flavor is recorded. The same again, under any id, is the same flavor; Refused for another of that name or id.

        Refused names field, value and rule; of the extra specs key, value and rule.
        """
        require_usable_id(self.store, request_id)
        spec = parse_spec(FlavorCreateSpec, fields)
        _require_sense(spec.extra_specs)
        asked = FlavorRecord(
            id=FlavorId(spec.id) if spec.id is not None else flavor_id_for(request_id),
            flavor=flavor_of(spec, spec.name),
            public=spec.public,
            projects=tuple(sorted(set(spec.projects))),
            created_at=self.now(),
        )

        def look() -> Already | Answered:
            seen = self.store.flavors.read_revision()
            there = self._there(asked)
            if there is not None:
                return _again(there, asked, spec)
            answer = self.answers.answer_for(request_id, flavor_view(asked))
            self.store.flavor_changes.create(asked, seen, answer)
            return Answered()

        return looking_again(f"flavor {spec.name}", look)

    def delete(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The flavor is gone. Instances that were built with it keep it."""
        require_usable_id(self.store, request_id)
        wanted = parse_spec(FlavorRefSpec, fields).flavor

        def look() -> Already | Answered:
            seen = self.store.flavors.read_revision()
            there = self.store.flavors.look_up(wanted)
            if there is None:
                return Already(result={"id": wanted, "name": wanted, "state": "deleted", "already": True})
            result = {"id": there.id, "name": there.flavor.name, "state": "deleted"}
            self.store.flavor_changes.delete(there, seen, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"flavor {wanted}", look)

    def set_specs(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The flavor has these extra specs besides its others. Guests that are built from now on are asked so."""
        spec = parse_spec(FlavorSetSpec, fields)

        def changed(there: FlavorRecord) -> FlavorRecord:
            return _with_extra_specs(there, {**there.flavor.extra_specs, **spec.extra_specs})

        return self._change(request_id, spec.flavor, changed)

    def unset_specs(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The flavor has no extra specs of these keys."""
        spec = parse_spec(FlavorUnsetSpec, fields)

        def changed(there: FlavorRecord) -> FlavorRecord:
            left = {key: text for key, text in there.flavor.extra_specs.items() if key not in spec.keys}
            return _with_extra_specs(there, left)

        return self._change(request_id, spec.flavor, changed)

    def add_access(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The project may have the private flavor. Refused of a public one."""
        spec = parse_spec(FlavorAccessSpec, fields)

        def changed(there: FlavorRecord) -> FlavorRecord:
            projects = tuple(sorted({*_projects_of(there), spec.project}))
            if len(projects) > PROJECTS_LIMIT:
                raise Refused(f"project: {len(there.projects)} have flavor {there.flavor.name!r}, and may be no more")
            return replace(there, projects=projects)

        return self._change(request_id, spec.flavor, changed)

    def remove_access(self, request_id: OperationId, fields: dict[str, Any]) -> Already | Answered:
        """The project may have the private flavor no more; what it built stays. Refused of a public one."""
        spec = parse_spec(FlavorAccessSpec, fields)

        def changed(there: FlavorRecord) -> FlavorRecord:
            return replace(there, projects=tuple(one for one in _projects_of(there) if one != spec.project))

        return self._change(request_id, spec.flavor, changed)

    def _change(
        self, request_id: OperationId, wanted: str, changed: Callable[[FlavorRecord], FlavorRecord]
    ) -> Already | Answered:
        require_usable_id(self.store, request_id)

        def look() -> Already | Answered:
            seen = self.store.flavors.read_revision()
            there = self.store.flavors.look_up(wanted)
            if there is None:
                raise Refused(f"flavor: {wanted!r}: there is no such flavor; see `taskvisor flavor list`")
            record = changed(there)
            if record == there:
                return Already(result={**flavor_view(there), "already": True})
            self.store.flavor_changes.change(record, seen, self.answers.answer_for(request_id, flavor_view(record)))
            return Answered()

        return looking_again(f"flavor {wanted}", look)

    def _there(self, asked: FlavorRecord) -> FlavorRecord | None:
        """The flavor that has the name or the id already, as either."""
        looks = (self.store.flavors.look_up(word) for word in (asked.flavor.name, asked.id))
        return next((found for found in looks if found is not None), None)


def _again(there: FlavorRecord, asked: FlavorRecord, spec: FlavorCreateSpec) -> Already:
    """The answer to who creates what is there. Refused when it is something else."""
    wanted = replace(asked, id=there.id if spec.id is None else asked.id, created_at=there.created_at)
    if there != wanted:
        raise Refused(
            f"name: {asked.flavor.name!r} (id {wanted.id}): there is another flavor of that name or id,"
            f" {there.flavor.name!r} (id {there.id}); choose another, or delete that one first"
        )
    view = dict(flavor_view(there))
    return Already(result=view if there.id == asked.id and spec.id is None else {**view, "already": True})


def _with_extra_specs(record: FlavorRecord, extra_specs: Mapping[str, str]) -> FlavorRecord:
    _require_sense(extra_specs)
    return replace(record, flavor=replace(record.flavor, extra_specs=extra_specs))


def _require_sense(extra_specs: Mapping[str, str]) -> None:
    try:
        require_extra_specs(extra_specs)
    except Refused as refused:
        raise Refused(f"extra_specs: {refused}") from refused


def _projects_of(record: FlavorRecord) -> tuple[str, ...]:
    if record.public:
        raise Refused(
            f"flavor: {record.flavor.name!r} is public, so every project may have it; there is nothing to change"
        )
    return record.projects
