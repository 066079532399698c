"""A guest on a macvtap of ours, on real libvirtd and QEMU: the XML is that of a TAP."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from taskvisor.model.network import HostLinks, NetworkKind
from taskvisor.model.plan import VifPlan
from taskvisor.model.states import PowerState
from tests.contract.plans import instance, layout
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from tests.net.plans import network, vif
from virt.domain import render
from virt.hypervisor import LibvirtHypervisor
from virt.policy import domain_config_for
from virt.readback import parse_domain

pytestmark = pytest.mark.real

LIMIT_S = 60.0


@pytest.fixture
def nic(host_namespace: str, tmp_state_dir: Path) -> Iterator[VifPlan]:
    """A NIC on a macvtap that the fabric has plugged on libvirtd's host."""
    ip = ("ip", "-n", host_namespace)
    run_or_fail([*ip, "link", "add", "up0", "type", "veth", "peer", "name", "up1"], limit_s=LIMIT_S)
    on = replace(network(9, mtu=1500), kind=NetworkKind.MACVTAP, physical="lan")
    nic, fabric = vif(0, on, HostLinks(uplinks={"lan": "up0"})), LinuxFabric(tmp_state_dir)
    fabric.ensure_plugged(nic)
    yield nic
    fabric.ensure_unplugged(nic)
    run_or_fail([*ip, "link", "del", "up0"], limit_s=LIMIT_S)


def test_libvirt_opens_it_and_leaves_it(libvirtd: Libvirtd, host_namespace: str, nic: VifPlan, tmp_path: Path) -> None:
    hypervisor = LibvirtHypervisor(libvirtd.uri, virt_type="qemu")
    facts = hypervisor.read_facts()
    disks = layout(tmp_path, machine=facts.machine)
    only = replace(disks, disks=disks.disks[:1], console_log=str(tmp_path / "console.log"))
    Path(only.disks[0].path).parent.mkdir(parents=True)
    run_or_fail(["qemu-img", "create", "-q", "-f", "qcow2", only.disks[0].path, "8M"], limit_s=LIMIT_S)
    guest = instance()
    xml = render(domain_config_for(guest, only, (nic,), facts))
    try:
        hypervisor.ensure_defined(guest.id, xml)
        assert hypervisor.ensure_running(guest.id).power_state is PowerState.RUNNING
        assert parse_domain(xml).taps == (nic.tap,)
        hypervisor.ensure_off(guest.id)
        said = run_or_fail(["ip", "-n", host_namespace, "-d", "link", "show", nic.tap], limit_s=LIMIT_S)
        assert nic.owner in said, "it is there, and ours, after the guest"
        assert nic.mac in said
    finally:
        hypervisor.ensure_undefined(guest.id)
        hypervisor.close()
