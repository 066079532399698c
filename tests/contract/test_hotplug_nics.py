"""What a Hypervisor promises of NICs that are added to guests and taken away (taskvisor/flow/ports.py).

The real guest here has no system, and so never lets go of a NIC while it runs: tests/system/test_interfaces.py has one that does.
"""

from collections.abc import Iterator

import pytest

from net.links.netlink import open_netlink
from net.links.tap import ensure_tap, ensure_tap_absent
from taskvisor.model.errors import Busy, Contradiction, Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import AttachedNic
from tests.contract.hypervisors import HypervisorHost
from tests.contract.test_hypervisor import GUEST, defined, disk, host, running, xml
from tests.fixtures.namespaces import entered_namespace
from virt.domain.connection import TapConnection
from virt.domain.interface import InterfaceConfig, InterfaceModel

__all__ = ["defined", "disk", "host", "running", "xml"]

MAC, TAP, OWNER = "52:54:00:0a:0b:0c", "taptvhotplug", "taskvisor:hotplug:nic"


@pytest.fixture
def nic(request: pytest.FixtureRequest) -> Iterator[AttachedNic]:
    """A NIC on a TAP that is there, on the real host; afterwards the TAP is gone."""
    config = InterfaceConfig(connection=TapConnection(tap=TAP), mac=MAC, model=InterfaceModel.VIRTIO)
    attached = AttachedNic(mac=MAC, xml=config.to_xml())
    if "real" not in request.node.name:
        yield attached
        return
    namespace = request.getfixturevalue("libvirtd").namespace
    with entered_namespace(namespace), open_netlink() as netlink:
        ensure_tap(netlink, name=TAP, owner=OWNER, mtu=1500)
    yield attached
    with entered_namespace(namespace), open_netlink() as netlink:
        ensure_tap_absent(netlink, name=TAP, owner=OWNER)


def test_a_nic_is_attached_once_however_often_it_is_asked(defined: HypervisorHost, nic: AttachedNic) -> None:
    for _ in range(2):
        defined.port.ensure_nic_attached(GUEST, nic)
    assert defined.list_nics(GUEST) == (MAC,)


def test_a_running_guest_gets_the_nic_at_once(running: HypervisorHost, nic: AttachedNic) -> None:
    for _ in range(2):
        running.port.ensure_nic_attached(GUEST, nic)
    assert running.list_nics(GUEST) == (MAC,)


def test_a_nic_of_a_running_guest_is_still_there_after_its_next_start(
    running: HypervisorHost, nic: AttachedNic
) -> None:
    running.port.ensure_nic_attached(GUEST, nic)
    running.port.ensure_off(GUEST)
    running.port.ensure_running(GUEST)
    assert running.list_nics(GUEST) == (MAC,)


def test_a_nic_of_a_guest_that_is_off_is_taken_away_at_once(defined: HypervisorHost, nic: AttachedNic) -> None:
    defined.port.ensure_nic_attached(GUEST, nic)
    for _ in range(2):
        defined.port.ensure_nic_detached(GUEST, MAC)
    assert defined.list_nics(GUEST) == ()


def test_a_guest_that_does_not_let_go_keeps_the_nic_until_it_is_off(running: HypervisorHost, nic: AttachedNic) -> None:
    running.port.ensure_nic_attached(GUEST, nic)
    running.ensure_paused(GUEST)
    for _ in range(2):
        with pytest.raises(Busy, match=f"has not let go of NIC {MAC}"):
            running.port.ensure_nic_detached(GUEST, MAC)
    assert running.list_nics(GUEST) == (MAC,)

    running.port.ensure_off(GUEST)
    running.port.ensure_nic_detached(GUEST, MAC)
    assert running.list_nics(GUEST) == ()


def test_a_nic_that_a_guest_was_asked_to_let_go_of_is_attached_again(running: HypervisorHost, nic: AttachedNic) -> None:
    running.port.ensure_nic_attached(GUEST, nic)
    running.ensure_paused(GUEST)
    with pytest.raises(Busy):
        running.port.ensure_nic_detached(GUEST, MAC)

    running.port.ensure_nic_attached(GUEST, nic)

    running.port.ensure_off(GUEST)
    assert running.list_nics(GUEST) == (MAC,)


def test_a_guest_that_is_not_there_gets_no_nic_and_has_none(host: HypervisorHost, nic: AttachedNic) -> None:
    with pytest.raises(Refused, match=r"there is no|is not defined"):
        host.port.ensure_nic_attached(GUEST, nic)
    host.port.ensure_nic_detached(GUEST, MAC)


def test_a_strangers_domain_is_left_alone(host: HypervisorHost, nic: AttachedNic) -> None:
    stranger = InstanceId("11111111-2222-4333-8444-555555555555")
    host.ensure_foreign_domain(stranger, "strangers")
    with pytest.raises(Contradiction):
        host.port.ensure_nic_attached(stranger, nic)
    with pytest.raises(Contradiction):
        host.port.ensure_nic_detached(stranger, MAC)
    host.ensure_foreign_domain_gone(stranger)
