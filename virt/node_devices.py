"""Looks for a host's PCI devices over libvirt, and nothing but looks.

A host whose libvirt has no driver for node devices has none that it could give away: that is an answer, not a failure.
"""

import libvirt
import structlog

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.observed import PciDevice
from virt.host_pci import parse_pci_device

log = structlog.get_logger(__name__)


def list_pci_devices(connection: libvirt.virConnect) -> tuple[PciDevice, ...]:
    """Every PCI device but bridges. One that vanishes meanwhile, or that can't be read, is left out."""
    try:
        found = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        log.warning("pci_devices_not_told", libvirt_error=str(error))
        return ()
    devices = (_device_unless_gone(device) for device in found)
    return tuple(device for device in devices if device is not None)


def _device_unless_gone(device: libvirt.virNodeDevice) -> PciDevice | None:
    try:
        return parse_pci_device(device.XMLDesc())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_NODE_DEVICE:
            return None
        raise
    except UnreadableRecord as problem:
        log.warning("pci_device_unreadable", device=device.name(), reason=str(problem))
        return None
