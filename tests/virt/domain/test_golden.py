"""Every Config renders to what is kept in `golden/`, and libvirt's own schema takes every domain.

After a change that is meant: TASKVISOR_REGENERATE=1 pytest tests/virt/domain, then read the difference. That every field
of every Config is in some golden file: `test_coverage`; that libvirt and QEMU take them: `test_acceptance`.
"""

import os
from pathlib import Path

import pytest
from lxml import etree

from tests.virt.domain.cases import cases
from virt.domain import render
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
