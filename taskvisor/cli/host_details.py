"""All that is known of one host, as lines for people and as a value for programs. Pure."""

import time
from collections.abc import Iterator, Mapping
from typing import TypedDict

from taskvisor.cli.host_state import host_state_text
from taskvisor.cli.quantities import age_text, time_text
from taskvisor.cli.views import HostView, host_view, reported_at_of
from taskvisor.model.cpu_list import cpu_list_text
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import HostCell
from taskvisor.model.records import Host, Inventory

Held = Mapping[str, InstanceId]


class CellView(TypedDict):
    """A NUMA cell. `pages`: how many, by size in KiB."""

    id: int
    cpus: str
    memory_mib: int
    pages: dict[str, int]


class PciDeviceView(TypedDict):
    """A PCI device that guests may have, and the instance that has it."""

    address: str
    vendor_id: str
    product_id: str
    cell: int | None
    instance_id: str | None


class HostDetailsView(HostView):
    """The host of `taskvisor hosts`, and more. `held` is what one instance alone has, by name."""

    cpu_model: str | None
    traits: list[str]
    cells: list[CellView]
    pci_devices: list[PciDeviceView]
    held: dict[str, str]
    stats: dict[str, int]
    cached_images: list[str]
    disk_available_least_gib: int | None
    orphans: list[str]
    guests: dict[str, int] | None
    physical_networks: list[str]
    tunnel_address: str | None


def host_details_view(host: Host, held: Held) -> HostDetailsView:
    """The host with all that it last said of itself, and what is held there."""
    inventory = host.inventory
    return {
        **host_view(host),
        "cpu_model": inventory.cpu_model if inventory else None,
        "traits": list(inventory.traits) if inventory else [],
        "cells": [_cell_view(cell) for cell in inventory.cells] if inventory else [],
        "pci_devices": list(_pci_views(inventory, held)) if inventory else [],
        "held": {str(thing): str(owner) for thing, owner in sorted(held.items())},
        "stats": dict(inventory.stats) if inventory else {},
        "cached_images": list(inventory.cached_images) if inventory else [],
        "disk_available_least_gib": inventory.disk_available_least_gib if inventory else None,
        "orphans": list(inventory.orphans) if inventory else [],
        "guests": dict(inventory.guests.amounts()) if inventory else None,
        "physical_networks": list(inventory.physical_networks) if inventory else [],
        "tunnel_address": inventory.tunnel_address if inventory else None,
    }


def details_of(host: Host, held: Held) -> Iterator[tuple[str, str]]:
    """Names and values, a line each."""
    reported_at = reported_at_of(host)
    yield "Name", host.name
    yield "State", host_state_text(host)
    if host.forced_down is not None:
        mark = host.forced_down
        yield "Forced down", f"by {mark.by}, {time_text(mark.at)}; its guests are not fenced"
    yield "Reported", "never" if reported_at is None else f"{age_text(time.time() - reported_at)} ago"
    yield "Instances", str(host.instances)
    inventory = host.inventory
    if inventory is None:
        return
    yield from (("Problem", problem) for problem in inventory.problems)
    yield from (("Differs", remark) for remark in inventory.remarks)
    yield from _hypervisor_lines(inventory)
    yield from _amount_lines(host, inventory)
    yield from _place_lines(inventory, held)
    yield "Cached images", str(len(inventory.cached_images))
    yield "Stats", ", ".join(f"{name} {count}" for name, count in inventory.stats.items()) or "-"
    yield "Traits", " ".join(inventory.traits) or "-"


def _hypervisor_lines(inventory: Inventory) -> Iterator[tuple[str, str]]:
    yield "Hypervisor", f"{inventory.virt_type.value} {inventory.hypervisor_version} on {inventory.arch}"
    yield "CPU model", inventory.cpu_model or "-"
    has = inventory.guests
    yield (
        "Domains",
        f"{inventory.domains}, with {has.vcpus} CPUs and {has.memory_mib} MiB; {len(inventory.orphans)} unknown",
    )
    if inventory.physical_networks or inventory.tunnel_address:
        yield "Networks", " ".join(filter(None, (*inventory.physical_networks, inventory.tunnel_address)))


def _amount_lines(host: Host, inventory: Inventory) -> Iterator[tuple[str, str]]:
    used, limits = dict(host.used.amounts()), dict(inventory.limits.amounts())
    for name, total in inventory.total.amounts():
        yield name, f"{used.get(name, 0)} claimed of {limits.get(name, 0)}; it has {total}"
    least = inventory.disk_available_least_gib
    grown = "" if least is None else f"; {least} if all disks grew to their size"
    yield "Disk free GiB", f"{inventory.disk_free_gib}{grown}"


def _place_lines(inventory: Inventory, held: Held) -> Iterator[tuple[str, str]]:
    for cell in inventory.cells:
        pages = ", ".join(f"{count} of {size} KiB" for size, count in sorted(cell.pages.items()) if count)
        yield f"NUMA cell {cell.id}", f"CPUs {cpu_list_text(cell.cpus)}, {cell.memory_mib} MiB, pages: {pages or '-'}"
    for device in _pci_views(inventory, held):
        what = f"{device['vendor_id']}:{device['product_id']}"
        yield f"PCI {device['address']}", f"{what}, {device['instance_id'] or 'free'}"
    yield from ((f"Held {thing}", owner) for thing, owner in sorted(held.items()) if not thing.startswith("pci:"))


def _cell_view(cell: HostCell) -> CellView:
    return {
        "id": cell.id,
        "cpus": cpu_list_text(cell.cpus),
        "memory_mib": cell.memory_mib,
        "pages": {str(size): count for size, count in sorted(cell.pages.items())},
    }


def _pci_views(inventory: Inventory, held: Held) -> Iterator[PciDeviceView]:
    offered = {thing for things in inventory.things.values() for thing in things}
    for device in inventory.pci_devices:
        if f"pci:{device.address}" in offered:
            yield {
                "address": device.address,
                "vendor_id": device.vendor_id,
                "product_id": device.product_id,
                "cell": device.cell,
                "instance_id": held.get(f"pci:{device.address}"),
            }
