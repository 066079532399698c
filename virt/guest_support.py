"""What the hypervisor can give a guest, read from libvirt's capabilities. Knows no connection, and no guest.

Capabilities: https://libvirt.org/formatcaps.html#guest-capabilities; domain capabilities, one text for each board:
https://libvirt.org/formatdomaincaps.html
"""

from collections.abc import Iterable, Mapping, Sequence

from lxml import etree

from taskvisor.model.observed import GuestSupport
from taskvisor.model.states import VirtType
from virt.libvirt_xml import parse_tree

BOARDS = ("pc", "q35")
"""Asked for beside the host's default, where the host has them: a disk bus or secure boot may be had on one only."""


def parse_machines(capabilities_xml: str, arch: str, virt_type: VirtType) -> Mapping[str, str]:
    """The machine types of full virtualization, and what each is now: an alias like q35 is pc-q35-7.2, a full name itself.

    Empty when the host runs no such guests. UnreadableRecord when these are no capabilities.
    """
    root = parse_tree(capabilities_xml, "capabilities")
    found: dict[str, str] = {}
    for guest in root.iterfind("guest"):
        if guest.findtext("os_type") == "hvm":
            for offer in guest.iterfind(f"arch[@name='{arch}']"):
                # An accelerator with machines of its own has those only.
                own = offer.findall(f"domain[@type='{virt_type}']/machine")
                for machine in own or offer.findall("machine"):
                    name = machine.text or ""
                    found[name] = machine.get("canonical", name)
    return found


def parse_support(machines: Mapping[str, str], domain_capabilities: Sequence[str]) -> GuestSupport:
    """What guests can have with one of these boards at least; what libvirt is too old to tell of is None.

    `domain_capabilities` are those of each board, of one accelerator. UnreadableRecord when one is none.
    """
    boards = [_parsed_board(parse_tree(xml, "domainCapabilities")) for xml in domain_capabilities]
    return GuestSupport(
        machines=machines,
        firmwares=_of_any(board.firmwares for board in boards),
        secure_boot=_any_able(board.secure_boot for board in boards),
        cpu_modes=_of_any(board.cpu_modes for board in boards),
        cpu_models=_of_any(board.cpu_models for board in boards),
        disk_buses=_of_any(board.disk_buses for board in boards),
        video_models=_of_any(board.video_models for board in boards),
        tpm_models=_of_any(board.tpm_models for board in boards),
        tpm_versions=_of_any(board.tpm_versions for board in boards),
        memory_encryption=_any_able(board.memory_encryption for board in boards),
        encrypted_guests=max((board.encrypted_guests for board in boards if board.encrypted_guests), default=None),
    )


def _parsed_board(root: etree._Element) -> GuestSupport:
    secure = _values(root, "os/loader", "secure")
    sev = root.find("features/sev")
    return GuestSupport(
        firmwares=_values(root, "os", "firmware"),
        secure_boot=None if secure is None else "yes" in secure,
        cpu_modes=_cpu_modes(root),
        cpu_models=_cpu_models(root),
        disk_buses=_values(root, "devices/disk", "bus"),
        video_models=_values(root, "devices/video", "modelType"),
        tpm_models=_tpm_values(root, "model"),
        tpm_versions=_tpm_values(root, "backendVersion"),
        memory_encryption=None if sev is None else sev.get("supported") == "yes",
        encrypted_guests=_whole(None if sev is None else sev.findtext("maxGuests")),
    )


def _values(root: etree._Element, path: str, name: str) -> frozenset[str] | None:
    """What an enum lists: nothing where what it belongs to is not supported, None where libvirt does not tell."""
    owner = root.find(path)
    if owner is None:
        return None
    if owner.get("supported") == "no":
        return frozenset()
    listed = owner.find(f"enum[@name='{name}']")
    return None if listed is None else frozenset(value.text or "" for value in listed.iterfind("value"))


def _cpu_modes(root: etree._Element) -> frozenset[str] | None:
    modes = root.findall("cpu/mode")
    return frozenset(mode.get("name", "") for mode in modes if mode.get("supported") == "yes") if modes else None


def _cpu_models(root: etree._Element) -> frozenset[str] | None:
    custom = root.find("cpu/mode[@name='custom']")
    if custom is None:
        return None
    # Emulated, a model that lacks some features is given all the same (check none in our definitions).
    emulated = root.findtext("domain") == VirtType.QEMU
    return frozenset(model.text or "" for model in custom.iterfind("model") if emulated or model.get("usable") != "no")


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _tpm_values(root: etree._Element, name: str) -> frozenset[str] | None:
    # A guest's TPM is emulated by swtpm: where that is not installed, libvirt offers the host's own only.
    backends = _values(root, "devices/tpm", "backendModel")
    if backends is not None and "emulator" not in backends:
        return frozenset()
    return _values(root, "devices/tpm", name)


def _of_any(boards: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    told = [names for names in boards if names is not None]
    return frozenset().union(*told) if told else None


def _any_able(boards: Iterable[bool | None]) -> bool | None:
    told = [able for able in boards if able is not None]
    return any(told) if told else None
