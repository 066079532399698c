"""The guest that the second source document prints is rendered as it is printed there.

`walkthrough.xml` is that print, whole: of a running domain, with what libvirt had added to what Nova gave it.
"""

from pathlib import Path

import pytest
from lxml import etree

from tests.virt.domain.walkthrough import WALKTHROUGH
from virt.domain import render

PRINTED = Path(__file__).with_name("walkthrough.xml")

ADDED_ELEMENTS = (
    "resource",  # the cgroup that it put the guest into
    "devices/controller",  # for the devices that need one
    "devices/*/alias",  # its own names for devices
    "devices/*/address",  # the slots that it chose
    "devices/disk/backingStore",  # what it found the disk to stand on
    "devices/serial[@type='pty']/source",  # the pty that it opened
)
ADDED_ATTRIBUTES = (
    (".", "id"),  # the number of a running domain
    ("devices/graphics", "port"),  # the port that it chose
)


def test_the_documents_guest_is_rendered_as_it_is_printed() -> None:
    assert render(WALKTHROUGH) == _as_given_to_libvirt(_printed())


@pytest.mark.parametrize("path", ADDED_ELEMENTS)
def test_an_element_that_libvirt_added_is_in_the_print_and_not_in_ours(path: str) -> None:
    assert _printed().findall(path)
    assert not WALKTHROUGH.to_element().findall(path)


@pytest.mark.parametrize(("path", "name"), ADDED_ATTRIBUTES)
def test_an_attribute_that_libvirt_added_is_in_the_print_and_not_in_ours(path: str, name: str) -> None:
    assert [found.get(name) is None for found in _printed().findall(path)] == [False]
    assert [found.get(name) is None for found in WALKTHROUGH.to_element().findall(path)] == [True]


def _printed() -> etree._Element:
    return etree.parse(str(PRINTED), etree.XMLParser(remove_blank_text=True)).getroot()


def _as_given_to_libvirt(domain: etree._Element) -> str:
    for path in ADDED_ELEMENTS:
        for added in domain.findall(path):
            parent = added.getparent()
            assert parent is not None
            parent.remove(added)
    for path, name in ADDED_ATTRIBUTES:
        for found in domain.findall(path):
            del found.attrib[name]
    return etree.tostring(domain, pretty_print=True, encoding="unicode")
