"""Adding a disk to a domain of ours, and taking it away: from its definition, and from the guest while that runs.

The domain's XML is the truth, read each time; events only shorten the wait. A disk is ours to take when device name and
serial are those we gave it. https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainDetachDeviceFlags
"""

import libvirt
import structlog
from lxml import etree

from taskvisor.model.errors import Busy, Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import AttachedDisk
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


def ensure_disk_attached(connection: libvirt.virConnect, instance_id: InstanceId, disk: AttachedDisk) -> None:
    """See `Hypervisor.ensure_disk_attached`. The definition first: what the guest has is then never missing there."""
    domain = look_up_ours(connection, instance_id)
    if domain is None:
        raise Refused(
            f"cannot attach disk {disk.device}: domain {instance_id} is not defined here; start the guest first"
        )
    for look, act in (_CONFIG, _LIVE) if is_active(domain) else (_CONFIG,):
        if not _has(domain, look, disk):
            _attach(domain, disk, act)
            log.info("disk_attached", instance_id=instance_id, device=disk.device, live=act == _LIVE[1])


def ensure_disk_detached(connection: libvirt.virConnect, instance_id: InstanceId, device: str, serial: str) -> None:
    """See `Hypervisor.ensure_disk_detached`."""
    domain = look_up_ours(connection, instance_id)
    if domain is None:
        return
    defined = _disk_of(domain, _CONFIG[0], device)
    if defined is not None and _serial_of(defined) == serial:
        domain.detachDeviceFlags(_text_of(defined), _CONFIG[1])
        log.info("disk_undefined", instance_id=instance_id, device=device)
    if is_active(domain):
        _detach_live(connection, domain, device, serial)


def _attach(domain: libvirt.virDomain, disk: AttachedDisk, act: int) -> None:
    try:
        domain.attachDeviceFlags(disk.xml, act)
    except libvirt.libvirtError as error:
        said = str(error.get_error_message() or error)
        if not any(words in said for words in _NO_PLACE):
            raise
        raise Refused(
            f"cannot attach disk {disk.device} to domain {domain.UUIDString()} while it runs ({said}): stop the guest, attach it,"
            " and start the guest"
        ) from error


def _detach_live(connection: libvirt.virConnect, domain: libvirt.virDomain, device: str, serial: str) -> None:
    found = _live_disk_of(domain, device, serial)
    if found is None:
        return
    alias = found.find("alias")
    with watched_device(connection, domain, "" if alias is None else alias.get("name", "")) as answer:
        said = _asked(domain, found)
        if _live_disk_of(domain, device, serial) is not None:
            answer.wait(SLICE_S)
    if _live_disk_of(domain, device, serial) is None:
        log.info("disk_detached", instance_id=domain.UUIDString(), device=device)
        return
    raise Busy(
        f"guest {domain.UUIDString()} has not let go of disk {device} ({serial}){said}",
        delay_s=ASK_REFUSED_AGAIN_S if answer.refused else ASK_AGAIN_S,
    )


def _asked(domain: libvirt.virDomain, disk: etree._Element) -> str:
    """Ask the guest; what QEMU said against it. Whether it has let go, the next look tells."""
    try:
        domain.detachDeviceFlags(_text_of(disk), _LIVE[1])
    except libvirt.libvirtError as error:
        if not is_no_domain(error) and error.get_error_code() not in _NOT_YET:
            raise
        return f": {error.get_error_message()}"
    return ""


def _live_disk_of(domain: libvirt.virDomain, device: str, serial: str) -> etree._Element | None:
    """The disk that the running guest has; None when it has none such, or does not run any more."""
    try:
        found = _disk_of(domain, _LIVE[0], device) if is_active(domain) else None
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return None
        raise
    return found if found is not None and _serial_of(found) == serial else None


def _has(domain: libvirt.virDomain, look: int, disk: AttachedDisk) -> bool:
    found = _disk_of(domain, look, disk.device)
    if found is None:
        return False
    if _serial_of(found) != disk.serial:
        raise Refused(
            f"cannot attach disk {disk.device} to domain {domain.UUIDString()}: it has another of that name, with serial"
            f" {_serial_of(found)}; ask for another device name"
        )
    return True


def _disk_of(domain: libvirt.virDomain, look: int, device: str) -> etree._Element | None:
    disks = parse_tree(domain.XMLDesc(look), "domain").iterfind("devices/disk")
    return next((disk for disk in disks if disk.find(f"target[@dev='{device}']") is not None), None)


def _serial_of(disk: etree._Element) -> str | None:
    found: str | None = disk.findtext("serial")
    return found


def _text_of(disk: etree._Element) -> str:
    return str(etree.tostring(disk, encoding="unicode"))
