"""A domain's XML as facts: what is said at which place, so that two definitions can be compared. Knows no rules and asks nothing.

    <vcpu>2</vcpu>                                           vcpu = 2
    <clock><timer name='rtc' tickpolicy='catchup'/></clock>  clock/timer[rtc]@tickpolicy = catchup
    <disk><target dev='vda'/><readonly/></disk>              disk[vda]/readonly = (nothing)

What stands several times is told apart by what it is about, never by where it stands: libvirt sorts what it is given.
Amounts with a unit are in KiB. Metadata of others are passed over.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from virt.domain.nova_owner import NovaDialect
from virt.domain.owner import NAMESPACE
from virt.libvirt_xml import parse_tree

METADATA = "metadata"
_OWNERS = frozenset({NAMESPACE, *NovaDialect})
UNIT_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("b", "bytes"), 1),
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    **dict.fromkeys(("k", "K", "KiB"), 1024),
    **dict.fromkeys(("M", "MiB"), 1024**2),
    **dict.fromkeys(("G", "GiB"), 1024**3),
    **dict.fromkeys(("T", "TiB"), 1024**4),
}
"""https://libvirt.org/formatdomain.html#memory-allocation"""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a definition says, by place. `devices` are the places at which a device begins."""

    facts: Mapping[str, str]
    devices: frozenset[str]


def parse_definition(xml: str) -> Definition:
    """Everything that the XML of a domain says; UnreadableRecord when it is no domain."""
    root = parse_tree(xml, "domain")
    devices = list(_devices(root))
    facts = {"@type": root.get("type", "")}
    for place, element in (*devices, *_board(root)):
        facts.update(_facts(element, place))
    return Definition(facts=facts, devices=frozenset(place for place, _ in devices))


def _board(root: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    yield from _placed((child for child in root if _tag(child) not in ("devices", METADATA)), "")
    emulator = root.find("devices/emulator")
    if emulator is not None:
        yield "emulator", emulator
    owners = (child for child in root.iterfind(f"{METADATA}/*") if etree.QName(child).namespace in _OWNERS)
    yield from _placed(owners, f"{METADATA}/")


def _devices(root: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    return _placed((child for child in root.iterfind("devices/*") if _tag(child) != "emulator"), "")


def _facts(element: etree._Element, place: str) -> Iterator[tuple[str, str]]:
    """What the element and all below it say: that it is there, with its text, and each attribute."""
    text = (element.text or "").strip()
    in_kib = _kib(text, element.get("unit"))
    yield place, text if in_kib is None else in_kib
    for name, value in element.items():
        if not (name == "unit" and in_kib is not None):
            yield f"{place}@{etree.QName(name).localname}", str(value)
    for child_place, child in _placed(element, f"{place}/"):
        yield from _facts(child, child_place)


def _kib(text: str, unit: str | None) -> str | None:
    if unit is None or unit not in UNIT_BYTES or not text.isdecimal():
        return None
    return str(int(text) * UNIT_BYTES[unit] // 1024)


def _placed(elements: "Iterator[etree._Element] | etree._Element", above: str) -> Iterator[tuple[str, etree._Element]]:
    """Each element with its place; of those that nothing tells apart, all but the first are numbered."""
    seen: Counter[str] = Counter()
    for element in elements:
        key = _key(element)
        place = f"{above}{_tag(element)}" + (f"[{key}]" if key else "")
        number = seen[place]
        seen[place] += 1
        yield (place if number == 0 else f"{place}[{number}]"), element


def _tag(element: etree._Element) -> str:
    name = etree.QName(element)
    return f"qemu:{name.localname}" if name.namespace and name.namespace not in _OWNERS else name.localname


def _key(element: etree._Element) -> str:
    """What tells the element from others of its kind; empty when it is the only one, or its number must do."""
    parent = element.getparent()
    above = None if parent is None else _tag(parent)
    find = _KEYS.get(f"{above}/{_tag(element)}")
    return "" if find is None else find(element).strip()


def _of(path: str, attribute: str) -> Callable[[etree._Element], str]:
    def found(element: etree._Element) -> str:
        child = element if path == "." else element.find(path)
        return "" if child is None else child.get(attribute, "")

    return found


def _interface(element: etree._Element) -> str:
    # By its link where that is ours, so that a card whose MAC was changed is the same card; libvirt names the other links.
    link = _of("target", "dev")(element) if _of("target", "managed")(element) == "no" else ""
    return link or _of("mac", "address")(element)


def _hostdev(element: etree._Element) -> str:
    source = element.find("source/address")
    return "" if source is None else " ".join(str(value).removeprefix("0x") for _, value in source.items())


def _both(first: str, second: str) -> Callable[[etree._Element], str]:
    return lambda element: f"{element.get(first, '')} {element.get(second, '')}"


_KEYS: Mapping[str, Callable[[etree._Element], str]] = {
    "devices/disk": _of("target", "dev"),
    "devices/interface": _interface,
    "devices/serial": _of("target", "port"),
    "devices/parallel": _of("target", "port"),
    "devices/channel": _of("target", "name"),
    "devices/graphics": _of(".", "type"),
    "devices/input": _both("type", "bus"),
    "devices/controller": _both("type", "index"),
    "devices/filesystem": _of("target", "dir"),
    "devices/hostdev": _hostdev,
    "devices/watchdog": _of(".", "model"),
    "clock/timer": _of(".", "name"),
    "cpu/feature": _of(".", "name"),
    "numa/cell": _of(".", "id"),
    "numatune/memnode": _of(".", "cellid"),
    "cputune/vcpupin": _of(".", "vcpu"),
    "cputune/iothreadpin": _of(".", "iothread"),
    "perf/event": _of(".", "name"),
    "system/entry": _of(".", "name"),
    "bios/entry": _of(".", "name"),
    "baseBoard/entry": _of(".", "name"),
    "chassis/entry": _of(".", "name"),
    "instance/port": _of(".", "id"),
    "instance/entry": _of(".", "key"),
    "image/entry": _of(".", "key"),
    "flavor/entry": _of(".", "key"),
}
"""By the tag above and the element's own. Whatever stands several times and is not named here keeps its order."""
