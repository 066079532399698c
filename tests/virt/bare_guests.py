"""Guests of a real libvirtd that are ours and have nothing: no disk, no NIC, a QEMU in which the firmware looks for something
to boot. They start within a second, which is all that tests of events and of hung QEMUs need.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import libvirt

from taskvisor.model.ids import InstanceId, OperationId, instance_id_for
from tests.fixtures.hosts import Libvirtd
from virt.domain.owner import NAMESPACE

XML = """
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata><tv:instance xmlns:tv='{namespace}' schema='1' id='{uuid}' name='{name}' host='h1' created_at='0.0'/></metadata>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <devices><controller type='usb' model='none'/><memballoon model='none'/>{devices}</devices>
</domain>
"""


@contextmanager
def bare_guest(
    libvirtd: Libvirtd, name: str, devices: str = "", *, boot: str = ""
) -> Iterator[tuple[InstanceId, "libvirt.virDomain"]]:
    """A guest that runs, and a handle by which the test does to it what an outsider might; gone when the block ends.

    `devices` are more of these, `boot` what its firmware is told, as XML.
    """
    uuid = instance_id_for(OperationId(f"bare-{name}"))
    backdoor = libvirt.open(libvirtd.uri)
    try:
        domain = backdoor.defineXML(XML.format(name=name, uuid=uuid, namespace=NAMESPACE, devices=devices, boot=boot))
        try:
            domain.create()
            yield uuid, domain
        finally:
            _end(libvirtd, uuid)
    finally:
        with suppress(libvirt.libvirtError):
            backdoor.close()


def qemu_pid(libvirtd: Libvirtd, name: str) -> int:
    """The process of a guest that runs."""
    return int((libvirtd.directory / "run" / "qemu" / f"{name}.pid").read_text())


def _end(libvirtd: Libvirtd, uuid: InstanceId) -> None:
    """By a connection of its own: the test may have restarted libvirtd."""
    connection = libvirt.open(libvirtd.uri)
    try:
        domain = connection.lookupByUUIDString(uuid)
        with suppress(libvirt.libvirtError):
            domain.destroy()
        domain.undefine()
    finally:
        connection.close()
