"""PCI devices, from what libvirt writes of them (https://libvirt.org/formatnode.html)."""

import libvirt
import pytest

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.observed import PciDevice
from virt.host_pci import parse_pci_device
from virt.node_devices import list_pci_devices

NIC = """
<device>
  <name>pci_0000_3b_00_1</name>
  <path>/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1</path>
  <parent>pci_0000_3a_00_0</parent>
  <driver><name>ixgbe</name></driver>
  <capability type='pci'>
    <class>0x020000</class>
    <domain>0</domain>
    <bus>59</bus>
    <slot>0</slot>
    <function>1</function>
    <product id='0x10fb'>82599ES 10-Gigabit SFI/SFP+ Network Connection</product>
    <vendor id='0x8086'>Intel Corporation</vendor>
    <capability type='virt_functions' maxCount='63'/>
    <iommuGroup number='42'><address domain='0x0000' bus='0x3b' slot='0x00' function='0x1'/></iommuGroup>
    <numa node='1'/>
  </capability>
</device>
"""
FOUND = PciDevice(address="0000:3b:00.1", vendor_id="8086", product_id="10fb", cell=1)


def test_a_device_has_its_address_its_ids_and_its_cell() -> None:
    assert parse_pci_device(NIC) == FOUND


def test_a_device_near_no_cell_has_none() -> None:
    found = parse_pci_device(NIC.replace("<numa node='1'/>", ""))
    assert found is not None
    assert found.cell is None


def test_a_bridge_is_nobodys_to_give_away() -> None:
    assert parse_pci_device(NIC.replace("0x020000", "0x060400")) is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("type='pci'", "type='usb'"), ("<bus>59</bus>", "<bus/>"), ("id='0x10fb'", ""), ("id='0x8086'", "id='Intel'")],
)
def test_what_is_no_device_is_unreadable(right: str, wrong: str) -> None:
    with pytest.raises(UnreadableRecord, match="PCI device"):
        parse_pci_device(NIC.replace(right, wrong))


class Device:
    def __init__(self, xml: str, code: int | None = None) -> None:
        self._xml, self._code = xml, code

    def name(self) -> str:
        return "pci_0000_3b_00_1"

    def XMLDesc(self) -> str:  # noqa: N802 - libvirt's name
        if self._code is not None:
            raise _error(self._code)
        return self._xml


class Connection:
    """libvirt's connection, as far as devices are concerned: this machine has none to list."""

    def __init__(self, devices: list[Device] | int) -> None:
        self._devices = devices

    def listAllDevices(self, flags: int) -> list[Device]:  # noqa: N802 - libvirt's name
        assert flags == libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV
        if isinstance(self._devices, int):
            raise _error(self._devices)
        return self._devices


def _error(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("no")
    error.err = (code, libvirt.VIR_FROM_NODEDEV, "no", 2, None, None, None, 0, 0)
    return error


def test_devices_that_vanish_or_make_no_sense_are_left_out() -> None:
    devices = [Device(NIC), Device(NIC, libvirt.VIR_ERR_NO_NODE_DEVICE), Device("<device/>")]
    assert list_pci_devices(Connection(devices)) == (FOUND,)


def test_a_libvirt_without_a_driver_for_devices_has_none_and_one_that_fails_is_an_error() -> None:
    assert list_pci_devices(Connection(libvirt.VIR_ERR_NO_SUPPORT)) == ()
    with pytest.raises(libvirt.libvirtError):
        list_pci_devices(Connection(libvirt.VIR_ERR_SYSTEM_ERROR))


def test_libvirts_own_test_driver_is_asked_the_same_way() -> None:
    connection = libvirt.open("test:///default")
    try:
        assert list_pci_devices(connection) == ()
    finally:
        connection.close()
