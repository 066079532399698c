"""The NUMA cells of a host, read from libvirt's capabilities. Knows no connection, and no guest that lies on them.

https://libvirt.org/formatcaps.html#host-capabilities
"""

from collections.abc import Iterator

from lxml import etree

from taskvisor.model.cpu_list import parse_cpu_list
from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.observed import HostCell
from virt.libvirt_xml import parse_tree

KIB_PER_MIB = 1024


def parse_cells(capabilities_xml: str) -> tuple[HostCell, ...]:
    """The host's cells, by their ids; none where libvirt does not know their memory. CPUs that are offline are left out.

    UnreadableRecord when these are no capabilities.
    """
    root = parse_tree(capabilities_xml, "capabilities")
    cells = root.findall("host/topology/cells/cell")
    if any(cell.find("memory") is None for cell in cells):
        return ()
    try:
        return tuple(sorted(map(_cell, cells), key=lambda cell: cell.id))
    except ValueError as error:
        raise UnreadableRecord(f"cannot read the NUMA cells of the host's capabilities: {error}") from error


def _cell(found: etree._Element) -> HostCell:
    # libvirt writes both sizes in KiB, whatever the host's (virCapabilitiesHostNUMAFormat).
    return HostCell(
        id=int(found.get("id", "")),
        memory_mib=int(found.findtext("memory", "")) // KIB_PER_MIB,
        cores=tuple(sorted(_cores(found), key=min)),
        pages={int(pages.get("size", "")): int(pages.text or "") for pages in found.iterfind("pages")},
    )


def _cores(found: etree._Element) -> Iterator[frozenset[int]]:
    # libvirt tells of no siblings of a CPU that is offline.
    cpus = {int(cpu.get("id", "")): cpu.get("siblings") for cpu in found.iterfind("cpus/cpu")}
    online = frozenset(cpu for cpu, siblings in cpus.items() if siblings)
    yield from {parse_cpu_list(siblings) & online for siblings in cpus.values() if siblings}
