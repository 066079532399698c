"""Whatever a Config can say, some golden file shows: every class, every field, every member of a closed set of words.

Found by introspection of `virt.domain`, so that a field added without a case fails here, and with it one that is not
rendered. Beside `virt.domain` itself this covers the records that it renders whole (the flavor of the owner).
"""

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import Enum
from inspect import isabstract
from typing import Any, get_args, get_type_hints

import pytest

import virt.domain
from tests.virt.domain.cases import cases
from virt.domain.config import Config

CASES = cases()
NOT_RENDERED = {"Port.instance_id": "the domain's own id"}
"""Fields of records that the owner's element does without, and why."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A field somewhere in a case: how to get to it from the case, and what it holds there."""

    case: Config
    path: tuple[str | int, ...]
    value: Any


def test_every_class_field_and_word_is_shown_by_some_case() -> None:
    assert unshown(CASES) == set()


@pytest.mark.parametrize(
    ("case", "missing"),
    [
        ("panic_of_windows", {"PanicConfig.model", "PanicModel.HYPERV"}),
        ("uefi_stateless", {"LoaderConfig.stateless: True"}),
        ("no_label", {"LabelType.NONE"}),
        ("copy_target_raw", {"CopyTargetConfig.format", "CopyTargetConfig.path"}),
    ],
)
def test_what_only_one_case_shows_is_missed_without_it(case: str, missing: set[str]) -> None:
    assert unshown({name: config for name, config in CASES.items() if name != case}) == missing


def test_every_field_that_is_shown_decides_what_the_xml_says() -> None:
    shown = _fields_shown(CASES)
    silent = {
        f"{kind.__name__}.{name}"
        for (kind, name), places in shown.items()
        for place, other in _alternatives(kind, name, places)
        if _replaced(place.case, place.path, other).to_xml() == place.case.to_xml()
    }
    assert silent == set(NOT_RENDERED)


def every_field() -> Mapping[str, tuple[str, ...]]:
    """The fields of every class of `virt.domain`, and of the records that it renders whole."""
    kinds = _kinds() | {kind for kind, _ in _fields_shown(CASES)}
    return {kind.__name__: tuple(field.name for field in fields(kind)) for kind in kinds}


def unshown(shown_cases: Mapping[str, Config]) -> set[str]:
    """What no case shows: classes, fields with but one value, booleans with but one answer, members of enums."""
    shown = _fields_shown(shown_cases)
    kinds = _kinds() | {kind for kind, _ in shown}
    values = {(kind, name): _distinct(kind, name, places) for (kind, name), places in shown.items()}
    missing = {kind.__name__ for kind in kinds if fields(kind) and not any(key[0] is kind for key in shown)}
    words: set[str] = set()
    for kind in kinds:
        hints = get_type_hints(kind)
        for field in fields(kind):
            there = values.get((kind, field.name), [])
            words |= {_name(value) for value in _flat(there) if isinstance(value, Enum)}
            missing |= set(_gaps(f"{kind.__name__}.{field.name}", hints[field.name], there))
    return missing | {_name(word) for kind in kinds for word in _words(kind)} - words


def _gaps(field: str, hint: object, values: list[Any]) -> Iterator[str]:
    if len(values) < 2 and field not in NOT_RENDERED:
        yield field
    elif bool in _atoms(hint) and type(None) in _atoms(hint):
        yield from (f"{field}: {answer}" for answer in (True, False) if answer not in values)


def _name(word: Enum) -> str:
    # Words of two sets may be equal, as strings are: DiskCache.NONE == LabelType.NONE.
    return f"{type(word).__name__}.{word.name}"


def _words(kind: type[Any]) -> Iterator[Enum]:
    for hint in get_type_hints(kind).values():
        for atom in _atoms(hint):
            if isinstance(atom, type) and issubclass(atom, Enum):
                yield from atom


def _atoms(hint: object) -> set[object]:
    """The classes in an annotation, whatever they are wrapped in: `tuple[BootDevice, ...] | None` has two."""
    inner = get_args(hint)
    return {atom for part in inner for atom in _atoms(part)} if inner else {hint}


def _kinds() -> set[type[Any]]:
    """Every dataclass of `virt.domain` that can be made."""
    modules = [
        importlib.import_module(found.name) for found in pkgutil.iter_modules(virt.domain.__path__, "virt.domain.")
    ]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return {
        kind
        for kind in found
        if is_dataclass(kind) and not isabstract(kind) and kind.__module__.startswith("virt.domain.")
    }


def _fields_shown(shown_cases: Mapping[str, Config]) -> dict[tuple[type[Any], str], list[Shown]]:
    shown: dict[tuple[type[Any], str], list[Shown]] = defaultdict(list)
    for case in shown_cases.values():
        for path, node in _nodes(case, ()):
            for field in fields(node):
                value = getattr(node, field.name)
                shown[type(node), field.name].append(Shown(case=case, path=(*path, field.name), value=value))
    return shown


def _nodes(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if is_dataclass(value):
        yield path, value
        for field in fields(value):
            yield from _nodes(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _nodes(item, (*path, index))


def _distinct(kind: type[Any], name: str, places: list[Shown]) -> list[Any]:
    values = [] if _default(kind, name) is MISSING else [_default(kind, name)]
    for place in places:
        if place.value not in values:
            values.append(place.value)
    return values


def _alternatives(kind: type[Any], name: str, places: list[Shown]) -> Iterator[tuple[Shown, Any]]:
    """For each value shown, one place that has it, and another value to put there: the default where there is one."""
    default, done = _default(kind, name), []
    for place in places:
        if place.value in done or place.value == default:
            continue
        done.append(place.value)
        others = [default] if default is not MISSING else [p.value for p in places if p.value != place.value]
        yield from ((place, other) for other in others[:1])


def _default(kind: type[Any], name: str) -> Any:
    field = next(field for field in fields(kind) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return (*value[:step], _replaced(value[step], rest, new), *value[step + 1 :])
    return replace(value, **{step: _replaced(getattr(value, step), rest, new)})


def _flat(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from value
        else:
            yield value
