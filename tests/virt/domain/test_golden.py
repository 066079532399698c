"""Every Config renders to what is kept in `golden/`, and libvirt's own schema takes every domain.

After a change that is meant: TASKVISOR_REGENERATE=1 pytest tests/virt/domain, then read the difference.
"""

import importlib
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, replace
from inspect import isabstract
from pathlib import Path

import pytest
from lxml import etree

import virt.domain
from tests.virt.domain.cases import cases
from virt.domain import render
from virt.domain.config import Config
from virt.domain.domain import DomainConfig

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")  # Debian, Ubuntu: libvirt0; Fedora: libvirt-libs
CASES = cases()
DOMAINS = {name: config for name, config in CASES.items() if isinstance(config, DomainConfig)}


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    assert SCHEMA.exists(), f"{SCHEMA} is missing; it comes with libvirt's client library (libvirt0)"
    return etree.RelaxNG(file=str(SCHEMA))


@pytest.mark.parametrize("name", CASES)
def test_the_xml_is_the_golden_one(name: str) -> None:
    path, xml = GOLDEN / f"{name}.xml", CASES[name].to_xml()
    if os.environ.get("TASKVISOR_REGENERATE"):
        path.write_text(xml, encoding="utf-8")
    assert xml == path.read_text(encoding="utf-8")


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.xml")} == set(CASES)


@pytest.mark.parametrize("name", DOMAINS)
def test_libvirts_schema_takes_the_domain(name: str, schema: etree.RelaxNG) -> None:
    schema.assertValid(etree.fromstring(render(DOMAINS[name])))


def test_the_schema_refuses_what_no_domain_has(schema: etree.RelaxNG) -> None:
    domain = DOMAINS["no_nics"].to_element()
    domain.append(etree.Element("bogus"))
    assert not schema.validate(domain)


def test_every_field_of_every_config_is_shown_by_some_case() -> None:
    shown = {(type(config), field.name) for config, field in _fields_in_cases() if _is_told(config, field)}
    wanted = {(kind, field.name) for kind in _kinds() for field in fields(kind)}  # type: ignore[arg-type]
    assert wanted - shown == set()


def test_every_field_that_has_a_default_changes_the_xml_when_it_is_set() -> None:
    for config, field in _fields_in_cases():
        default = _default(field)
        if default is not MISSING and getattr(config, field.name) != default:
            without = replace(config, **{field.name: default})  # type: ignore[type-var]
            assert without.to_xml() != config.to_xml(), f"{type(config).__name__}.{field.name}"


def _kinds() -> set[type[Config]]:
    for module in pkgutil.iter_modules(virt.domain.__path__, "virt.domain."):
        importlib.import_module(module.name)
    kinds, left = set(), [Config]
    while left:
        below = left.pop().__subclasses__()
        kinds |= {kind for kind in below if not isabstract(kind)}
        left += below
    return {kind for kind in kinds if kind.__module__.startswith("virt.")}


def _configs_in(value: object) -> Iterator[Config]:
    if isinstance(value, Config):
        yield value
        for field in fields(value):  # type: ignore[arg-type]
            yield from _configs_in(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _configs_in(item)


def _fields_in_cases() -> Iterator[tuple[Config, Field[object]]]:
    for case in CASES.values():
        for config in _configs_in(case):
            for field in fields(config):  # type: ignore[arg-type]
                yield config, field


def _default(field: Field[object]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _is_told(config: Config, field: Field[object]) -> bool:
    return bool(getattr(config, field.name) != _default(field))
