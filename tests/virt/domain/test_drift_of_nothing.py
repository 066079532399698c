"""No golden guest drifts by being defined, or started: what libvirt and QEMU add and resolve is not taken for drift."""

from dataclasses import replace

import libvirt
import pytest
from lxml import etree

from taskvisor.model.states import VirtType
from tests.virt.domain.test_acceptance import (  # noqa: F401 - fixtures
    DOMAINS,
    FORGOTTEN,
    REFUSED,
    STARTED,
    qemu_driver,
    test_driver,
)
from virt.definition import Definition, parse_definition
from virt.drift import differences_for


def undefine(domain: "libvirt.virDomain") -> None:
    """Gone, with its UEFI variables; the test driver knows none."""
    is_qemu = domain.connect().getType() == "QEMU"
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM if is_qemu else 0)


def persistent_of(domain: "libvirt.virDomain") -> Definition:
    return parse_definition(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


@pytest.mark.parametrize("name", [name for name in DOMAINS if name not in FORGOTTEN])
def test_what_the_test_driver_makes_of_a_definition_is_no_drift(name: str, test_driver: "libvirt.virConnect") -> None:  # noqa: F811
    wanted = DOMAINS[name].to_element()
    wanted.set("type", "test")
    xml = etree.tostring(wanted, encoding="unicode")
    domain = test_driver.defineXML(xml)
    try:
        assert differences_for(parse_definition(xml), persistent_of(domain), None) == ()
    finally:
        undefine(domain)


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in DOMAINS if name not in REFUSED])
def test_what_the_qemu_driver_makes_of_a_definition_is_no_drift(name: str, qemu_driver: "libvirt.virConnect") -> None:  # noqa: F811
    xml = replace(DOMAINS[name], virt_type=VirtType.QEMU).to_xml()
    domain = qemu_driver.defineXML(xml)
    try:
        assert differences_for(parse_definition(xml), persistent_of(domain), None) == ()
    finally:
        undefine(domain)


@pytest.mark.real
@pytest.mark.parametrize("name", STARTED)
def test_what_a_start_makes_of_a_definition_is_no_drift(name: str, qemu_driver: "libvirt.virConnect") -> None:  # noqa: F811
    xml = replace(DOMAINS[name], virt_type=VirtType.QEMU).to_xml()
    domain = qemu_driver.defineXML(xml)
    try:
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        live = parse_definition(domain.XMLDesc())
        assert differences_for(parse_definition(xml), persistent_of(domain), live) == ()
    finally:
        if domain.isActive():
            domain.destroy()
        undefine(domain)
