"""What every Config is: a frozen value that knows its XML. No Config decides anything; `virt.policy` does.

What reads XML that libvirt gives back lies beside it, in `virt`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from lxml import etree

Attribute = str | int | None


class Config(ABC):
    """One XML element of a domain. The docstring of each subclass shows the element."""

    @abstractmethod
    def to_element(self) -> etree._Element:
        """The element, with its children."""

    def to_xml(self) -> str:
        """The element as indented text, the same for the same Config."""
        return etree.tostring(self.to_element(), pretty_print=True, encoding="unicode")


class DeviceConfig(Config):
    """A child of `<devices>`. Devices of one bus are numbered in the order in which they stand."""


def element(
    tag: str,
    children: Iterable[etree._Element | None] = (),
    /,
    *,
    text: str | int | None = None,
    **attributes: Attribute,
) -> etree._Element:
    """`<tag attribute="…">text children</tag>`; what is None is left out."""
    made = etree.Element(tag, {name: str(value) for name, value in attributes.items() if value is not None})
    if text is not None:
        made.text = str(text)
    made.extend(child for child in children if child is not None)
    return made


def text_element(tag: str, text: str | int | None, /, **attributes: Attribute) -> etree._Element | None:
    """`<tag>text</tag>`; None when there is no text."""
    return None if text is None else element(tag, text=text, **attributes)


def flag_element(tag: str, is_set: bool) -> etree._Element | None:
    """`<tag/>`, which says all by being there; None when it is not set."""
    return element(tag) if is_set else None


def element_of(config: Config | None) -> etree._Element | None:
    """The element of a part that a domain may lack."""
    return None if config is None else config.to_element()


def unless_empty(made: etree._Element) -> etree._Element | None:
    """The element; None when it has neither attribute, text nor child, and so says nothing."""
    return made if made.attrib or made.text or len(made) else None


def on_off(value: bool | None) -> str | None:
    """libvirt's virOnOff; None is left to libvirt."""
    return None if value is None else ("on" if value else "off")


def yes_no(value: bool | None) -> str | None:
    """libvirt's virYesNo; None is left to libvirt."""
    return None if value is None else ("yes" if value else "no")


def number_set(numbers: frozenset[int] | None) -> str | None:
    """Numbers of CPUs or nodes as libvirt writes them: `0-3,8`. None for no set, and for one without members."""
    if not numbers:
        return None
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ",".join("-".join(map(str, found)) for found in ranges)
