"""Adding a device to a domain of ours, and taking it away: from its definition, and from the guest while that runs.

The domain's XML is the truth, read each time; events only shorten the wait. A disk is ours to take when device name and
serial are those we gave it, a NIC when its MAC is. https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainDetachDeviceFlags
"""

from collections.abc import Callable
from dataclasses import dataclass

import libvirt
import structlog
from lxml import etree

from taskvisor.model.errors import Busy, Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import AttachedDisk, AttachedNic
from virt.device_events import watched_device
from virt.libvirt_errors import is_no_domain
from virt.libvirt_xml import parse_tree
from virt.lookup import is_active, look_up_ours

log = structlog.get_logger(__name__)

SLICE_S = 2.0
"""So long the guest's answer is waited for; libvirt itself has waited some seconds by then."""
ASK_AGAIN_S, ASK_REFUSED_AGAIN_S = 1.0, 0.2
_CONFIG = (libvirt.VIR_DOMAIN_XML_INACTIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
_LIVE = (0, libvirt.VIR_DOMAIN_AFFECT_LIVE)
_NO_PLACE = (
    "No more available PCI slots",  # a q35 board has one to spare, unless it was given more
    "does not support hotplugging",  # SATA
    "can't be hotplugged",
)
"""What libvirt says when only a start can help; its code for these is that of any internal error."""
_NOT_YET = frozenset(
    {
        libvirt.VIR_ERR_OPERATION_FAILED,  # "unplug of device was rejected by the guest"
        libvirt.VIR_ERR_INTERNAL_ERROR,  # "Device … is already in the process of unplug"
        libvirt.VIR_ERR_OPERATION_INVALID,  # it was switched off meanwhile
        libvirt.VIR_ERR_DEVICE_MISSING,  # it has just gone
    }
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A device of a domain. `name` is what people call it, `full_name` with what proves it ours; `find` looks for that one in a
    domain's XML, and Refused when something else has its place.
    """

    name: str
    full_name: str
    find: Callable[[etree._Element], etree._Element | None]


def ensure_disk_attached(connection: libvirt.virConnect, instance_id: InstanceId, disk: AttachedDisk) -> None:
    """See `Hypervisor.ensure_disk_attached`."""

    def find(root: etree._Element) -> etree._Element | None:
        found = _disk_of(root, disk.device)
        if found is not None and _serial_of(found) != disk.serial:
            raise Refused(
                f"cannot attach disk {disk.device} to domain {instance_id}: it has another of that name, with serial"
                f" {_serial_of(found)}; ask for another device name"
            )
        return found

    part = _Part(name=f"disk {disk.device}", full_name=f"disk {disk.device} ({disk.serial})", find=find)
    _ensure_attached(connection, instance_id, part, disk.xml)


def ensure_disk_detached(connection: libvirt.virConnect, instance_id: InstanceId, device: str, serial: str) -> None:
    """See `Hypervisor.ensure_disk_detached`."""

    def find(root: etree._Element) -> etree._Element | None:
        found = _disk_of(root, device)
        return found if found is not None and _serial_of(found) == serial else None

    part = _Part(name=f"disk {device}", full_name=f"disk {device} ({serial})", find=find)
    _ensure_detached(connection, instance_id, part)


def ensure_nic_attached(connection: libvirt.virConnect, instance_id: InstanceId, nic: AttachedNic) -> None:
    """See `Hypervisor.ensure_nic_attached`."""
    _ensure_attached(connection, instance_id, _nic_part(nic.mac), nic.xml)


def ensure_nic_detached(connection: libvirt.virConnect, instance_id: InstanceId, mac: str) -> None:
    """See `Hypervisor.ensure_nic_detached`."""
    _ensure_detached(connection, instance_id, _nic_part(mac))


def _ensure_attached(connection: libvirt.virConnect, instance_id: InstanceId, part: _Part, xml: str) -> None:
    """The definition first: what the guest has is then never missing there."""
    domain = look_up_ours(connection, instance_id)
    if domain is None:
        raise Refused(f"cannot attach {part.name}: domain {instance_id} is not defined here; start the guest first")
    for look, act in (_CONFIG, _LIVE) if is_active(domain) else (_CONFIG,):
        if _found_in(domain, look, part) is None:
            _attach(domain, part, xml, act)
            log.info("device_attached", instance_id=instance_id, device=part.name, live=act == _LIVE[1])


def _ensure_detached(connection: libvirt.virConnect, instance_id: InstanceId, part: _Part) -> None:
    domain = look_up_ours(connection, instance_id)
    if domain is None:
        return
    defined = _found_in(domain, _CONFIG[0], part)
    if defined is not None:
        domain.detachDeviceFlags(_text_of(defined), _CONFIG[1])
        log.info("device_undefined", instance_id=instance_id, device=part.name)
    if is_active(domain):
        _detach_live(connection, domain, part)


def _attach(domain: libvirt.virDomain, part: _Part, xml: str, act: int) -> None:
    try:
        domain.attachDeviceFlags(xml, act)
    except libvirt.libvirtError as error:
        said = str(error.get_error_message() or error)
        if not any(words in said for words in _NO_PLACE):
            raise
        raise Refused(
            f"cannot attach {part.name} to domain {domain.UUIDString()} while it runs ({said}): stop the guest, attach it,"
            " and start the guest"
        ) from error


def _detach_live(connection: libvirt.virConnect, domain: libvirt.virDomain, part: _Part) -> None:
    found = _live(domain, part)
    if found is None:
        return
    alias = found.find("alias")
    with watched_device(connection, domain, "" if alias is None else alias.get("name", "")) as answer:
        said = _asked(domain, found)
        if _live(domain, part) is not None:
            answer.wait(SLICE_S)
    if _live(domain, part) is None:
        log.info("device_detached", instance_id=domain.UUIDString(), device=part.name)
        return
    raise Busy(
        f"guest {domain.UUIDString()} has not let go of {part.full_name}{said}",
        delay_s=ASK_REFUSED_AGAIN_S if answer.refused else ASK_AGAIN_S,
    )


def _asked(domain: libvirt.virDomain, device: etree._Element) -> str:
    """Ask the guest; what QEMU said against it. Whether it has let go, the next look tells."""
    try:
        domain.detachDeviceFlags(_text_of(device), _LIVE[1])
    except libvirt.libvirtError as error:
        if not is_no_domain(error) and error.get_error_code() not in _NOT_YET:
            raise
        return f": {error.get_error_message()}"
    return ""


def _live(domain: libvirt.virDomain, part: _Part) -> etree._Element | None:
    """The device that the running guest has; None when it has none such, or does not run any more."""
    try:
        return _found_in(domain, _LIVE[0], part) if is_active(domain) else None
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return None
        raise


def _found_in(domain: libvirt.virDomain, look: int, part: _Part) -> etree._Element | None:
    return part.find(parse_tree(domain.XMLDesc(look), "domain"))


def _disk_of(root: etree._Element, device: str) -> etree._Element | None:
    disks = root.iterfind("devices/disk")
    return next((disk for disk in disks if disk.find(f"target[@dev='{device}']") is not None), None)


def _nic_part(mac: str) -> _Part:
    def find(root: etree._Element) -> etree._Element | None:
        nics = root.iterfind("devices/interface")
        return next((nic for nic in nics if nic.find(f"mac[@address='{mac.lower()}']") is not None), None)

    return _Part(name=f"NIC {mac}", full_name=f"NIC {mac}", find=find)


def _serial_of(disk: etree._Element) -> str | None:
    found: str | None = disk.findtext("serial")
    return found


def _text_of(device: etree._Element) -> str:
    return str(etree.tostring(device, encoding="unicode"))
