"""What every Config is: a frozen value that knows its XML. No Config decides anything; `virt.policy` does.

Together with `virt.readback` this package is the only place that knows lxml.
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
