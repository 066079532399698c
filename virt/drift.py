"""What a guest has, against what its record makes of it. Pure: definitions and what was seen of files in, differences out.

What the record says must be there, as it says it. What it does not say is libvirt's to fill in (addresses, aliases,
controllers, defaults), but for what only a person adds (`ADDED_BY_HAND`): a NIC too many, a limit, a pinning. Live, a
domain has more and other than what was defined, by libvirt's own doing (`RESOLVED_AT_START`): that is no drift either.

Passwords are not read back, and not compared; of a URL nothing is told that may be secret.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from taskvisor.model.drift import Difference, Holds
from taskvisor.model.observed import DiskFileFacts
from taskvisor.model.plan import DiskLayout, DiskPlan, DiskRole, DiskStorage
from taskvisor.model.records import Instance
from taskvisor.model.states import ImageFormat
from virt.definition import METADATA, Definition
from virt.images.source import shown_url

MISSING, UNRECORDED = "missing", "unrecorded"

NAMED: Mapping[str, str] = {
    "@type": "virt-type",
    "vcpu": "vcpus",
    "os/type@machine": "machine",
    "disk@device": "disk.medium",
    "disk/driver@type": "disk.format",
    "disk/driver@cache": "disk.cache",
    "disk/driver@io": "disk.io",
    "disk/source@file": "disk.source",
    "disk/source@dev": "disk.source",
    "disk/source@name": "disk.source",
    "disk/source": "disk.source",
    "disk/target@bus": "disk.bus",
    "disk/boot@order": "disk.boot-order",
    "disk/boot": "disk.boot-order",
    "interface/mac@address": "nic.mac",
    "interface/model@type": "nic.model",
    "interface/driver@queues": "nic.queues",
    "interface/mtu@size": "nic.mtu",
    "interface/mtu": "nic.mtu",
}
"""What has a better name than its place."""

ADDED_BY_HAND = re.compile(
    r"(disk|interface|hostdev|filesystem|serial|parallel|channel|graphics|rng|tpm|vsock|shmem|redirdev|sound|smartcard|iommu)"
    r"|watchdog"
    r"|disk/(iotune|readonly|shareable|transient|serial|wwn|boot|encryption)"
    r"|interface/(bandwidth|boot|driver|filterref|vlan|link|mtu)"
    r"|os@firmware|os/(kernel|initrd|cmdline)"
    r"|(cputune|memtune|blkiotune|memoryBacking|launchSecurity|perf|iothreads|iothreadids|title|description)"
    r"|(cputune|memtune|blkiotune|memoryBacking|sysinfo)/.+"
    r"|vcpu@(cpuset|current)|numatune/(memory@nodeset|memnode)"
    r"|cpu/feature"
    r"|qemu:.+"
    rf"|{METADATA}/instance.*"
)
"""Places, without what tells one of a kind from another, that libvirt leaves empty when a definition does."""

RESOLVED_AT_START = re.compile(
    r"cpu(@.*|/(model|vendor|feature|maxphysaddr|cache).*)?"  # host-model and the like become what the host has
    r"|currentMemory|vcpu@current"  # the balloon, and CPUs that the guest has put away
    r"|clock@(adjustment|basis)"  # the guest sets its own clock
    r"|(cputune|numatune/.+)"
    r"|channel/(source|target@state).*"
    # A domain that runs may keep the metadata of its start; its disks and NICs themselves are compared. A build that Redis
    # forgot, and that was asked for again, finds its guest running since before its record was made.
    rf"|{METADATA}/instance(/(volume|port).*|@created_at)"
)
"""Places at which a live domain has what its start, its guest or libvirt made of the definition."""

NOT_READ = re.compile(r"graphics@(passwd|passwdValidTo|connected)")
"""What can't be read back."""
LIBVIRTS_OWN = frozenset({"watchdog[itco]"})
"""Devices that a board has by itself, and that libvirt may write down (q35's watchdog, since libvirt 9.1)."""
BOARDS: Mapping[str, str] = {"pc": "pc-i440fx-", "q35": "pc-q35-"}
"""What the short names of boards are resolved to when a domain is defined."""
FILE_CODES = _NO_FILE, _FORMAT, _SIZE, _NO_BASE, _BASE = (
    "disk-file.missing",
    "disk-file.format",
    "disk-file.size",
    "disk-file.base-missing",
    "disk-file.base",
)
_KEPT_AS_THEY_CAME = frozenset({ImageFormat.QCOW2, ImageFormat.RAW, ImageFormat.ISO})
_Found = tuple[str, str | None, str | None]
"""Code, what is recorded, what is there."""
_KEYS = re.compile(r"\[[^\]]*\]")


def differences_for(
    wanted: Definition, persistent: Definition | None, live: Definition | None
) -> tuple[Difference, ...]:
    """Where a domain is not as `wanted`, in the order of places. `persistent` None: it is not defined; `live` None: it is off."""
    of_next = {} if persistent is None else dict(_found(wanted, persistent))
    of_now = {} if live is None else dict(_found(wanted, live, passed_over=RESOLVED_AT_START))
    return tuple(
        difference
        for place in sorted({*of_next, *of_now})
        for difference in _differences(place, of_next.get(place), of_now.get(place))
    )


def file_differences_for(
    instance: Instance, layout: DiskLayout, files: Mapping[str, DiskFileFacts | None]
) -> tuple[Difference, ...]:
    """Where the files of a guest's disks are not as planned. `files`: what lies at each path looked at; None: nothing."""
    looked_at = (disk for disk in layout.disks if disk.storage is DiskStorage.FILE and disk.path in files)
    return tuple(difference for disk in looked_at for difference in _of_file(instance, disk, files[disk.path]))


def code_for(place: str) -> str:
    """The code of a difference at that place of the definition."""
    if place.startswith(f"{METADATA}/"):
        return f"drift.{METADATA}"
    plain = _plain(place)
    named = NAMED.get(plain) or re.sub(r"[/@]", ".", plain)
    return "drift." + re.sub(r"^interface\b", "nic", named).replace(":", "-")


def _plain(place: str) -> str:
    return _KEYS.sub("", place)


def _found(
    wanted: Definition, found: Definition, passed_over: re.Pattern[str] | None = None
) -> Iterator[tuple[str, _Found]]:
    above: list[str] = []
    for place, difference in sorted((*_lacking(wanted, found), *_added(wanted, found))):
        plain = _plain(place)
        told = any(place.startswith((f"{higher}/", f"{higher}@")) for higher in above)
        if told or NOT_READ.fullmatch(plain) or (passed_over is not None and passed_over.fullmatch(plain)):
            continue
        if None in difference[1:]:  # all of what is not there, or too much, is told by its uppermost place
            above.append(place)
        yield place, difference


def _lacking(wanted: Definition, found: Definition) -> Iterator[tuple[str, _Found]]:
    for place, value in wanted.facts.items():
        there = found.facts.get(place)
        if there is None:
            code = f"{code_for(place)}.{MISSING}" if place in wanted.devices else code_for(place)
            yield place, (code, value, None)
        elif value not in ("", there) and not _is_same(place, value, there):
            yield place, (code_for(place), value, there)


def _added(wanted: Definition, found: Definition) -> Iterator[tuple[str, _Found]]:
    for place, value in found.facts.items():
        if place in wanted.facts or place in LIBVIRTS_OWN or not ADDED_BY_HAND.fullmatch(_plain(place)):
            continue
        code = f"{code_for(place)}.{UNRECORDED}" if place in found.devices else code_for(place)
        yield place, (code, None, value)


def _is_same(place: str, wanted: str, found: str) -> bool:
    if place == "os/type@machine":
        return wanted in BOARDS and found.startswith(BOARDS[wanted])
    return place.endswith(("mac@address", "uuid")) and wanted.lower() == found.lower()


def _differences(place: str, of_next: _Found | None, of_now: _Found | None) -> Iterator[Difference]:
    if of_next is not None and of_next == of_now:
        yield _difference(place, of_next, Holds.ALWAYS)
        return
    if of_next is not None:
        yield _difference(place, of_next, Holds.NEXT_START)
    if of_now is not None:
        yield _difference(place, of_now, Holds.UNTIL_NEXT_START)


def _difference(place: str, told: _Found, holds: Holds) -> Difference:
    code, recorded, found = told
    if place.endswith("image@url"):
        recorded, found = (text if text is None else shown_url(text) for text in (recorded, found))
    return Difference(code=code, place=place, recorded=recorded, found=found, holds=holds)


def _of_file(instance: Instance, disk: DiskPlan, seen: DiskFileFacts | None) -> Iterator[Difference]:
    if seen is None:
        yield _file_difference(_NO_FILE, disk, disk.path, None)
        return
    if disk.format is ImageFormat.RAW and seen.format is not ImageFormat.RAW:
        return  # QEMU is told that it is raw, so what looks like a header is what the guest wrote
    if seen.format is not disk.format:
        yield _file_difference(_FORMAT, disk, disk.format, seen.format)
    elif disk.size_bytes and seen.virtual_bytes != disk.size_bytes:
        yield _file_difference(_SIZE, disk, str(disk.size_bytes), str(seen.virtual_bytes))
    if disk.role is DiskRole.ROOT and seen.base_path is not None:
        yield from _of_base(instance, disk, seen.base_path, is_there=seen.base_is_there)


def _of_base(instance: Instance, disk: DiskPlan, base_path: str, *, is_there: bool) -> Iterator[Difference]:
    image = instance.image
    if not is_there:
        yield _file_difference(_NO_BASE, disk, base_path, None)
    # What was converted bears the name of what it was made into; only an image that was kept as it came bears its own.
    elif (
        image.sha256
        and image.format in _KEPT_AS_THEY_CAME
        and not PurePosixPath(base_path).name.startswith(image.sha256)
    ):
        yield _file_difference(_BASE, disk, image.sha256, base_path)


def _file_difference(kind: str, disk: DiskPlan, recorded: str, found: str | None) -> Difference:
    return Difference(code=f"drift.{kind}", place=f"file[{disk.device}]", recorded=recorded, found=found)
