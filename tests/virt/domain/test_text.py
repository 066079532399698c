"""Any text survives XML, lxml and libvirt."""

import uuid

import libvirt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.virt.domain.cases import HOSTILE_TEXT
from virt.domain.text import escaped, one_line, unescaped

ANY_TEXT = st.text(st.characters(), max_size=40)  # surrogates and control characters too


@given(ANY_TEXT)
@example(HOSTILE_TEXT)
@example("\\u0041 \\\\u0041 \\")
def test_unescaping_gives_the_original_back(text: str) -> None:
    assert unescaped(escaped(text)) == text


@given(ANY_TEXT)
@example(HOSTILE_TEXT)
def test_an_attribute_carries_escaped_text(text: str) -> None:
    xml = etree.tostring(etree.Element("a", b=escaped(text)), encoding="unicode")
    assert unescaped(etree.fromstring(xml).get("b", "")) == text


def test_readable_text_stays_as_it_is() -> None:
    assert escaped("Größe: 10 GiB 🐙 <&>\n") == "Größe: 10 GiB 🐙 <&>\n"


@settings(max_examples=50)
@given(ANY_TEXT)
@example(HOSTILE_TEXT)
@example(" ")
@example("")
def test_libvirt_keeps_what_our_metadata_hold(text: str) -> None:
    connection = libvirt.open("test:///default")
    metadata = etree.Element("{urn:test}instance", {"name": escaped(text)}, nsmap={"tv": "urn:test"})
    domain = connection.defineXML(
        f"<domain type='test'><name>text-{uuid.uuid4()}</name><memory>1024</memory><os><type>hvm</type></os>"
        f"<metadata>{etree.tostring(metadata, encoding='unicode')}</metadata></domain>"
    )
    try:
        kept = etree.fromstring(domain.XMLDesc()).find("metadata/{urn:test}instance")
        assert kept is not None
        assert unescaped(kept.get("name", "")) == text
    finally:
        domain.undefine()


def test_one_line_is_one_line_that_can_be_shown() -> None:
    assert one_line("  web\x00\r\n server\t🐙 ") == "web server 🐙"


def test_what_cannot_be_shown_at_all_has_no_line() -> None:
    assert one_line("\n\x00\ud800") is None
