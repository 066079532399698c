"""NICs of guests that are there: attached and detached while they run or not, with their ports, and never lost on the way."""

from dataclasses import replace

import pytest

from taskvisor.model.errors import Busy, Conflicting, Refused
from taskvisor.model.ids import security_group_id_for
from taskvisor.model.network import Bandwidth, Qos
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase, VmState
from tests.support.audits import audit
from tests.support.fleet import Fleet
from tests.support.groups import make_group
from tests.support.records import SAID_SO
from tests.support.spies import Moment
from tests.support.world import read_held, read_hosts


@pytest.fixture
def guest(fleet: Fleet) -> Fleet:
    """The fleet, with the guest web running: one NIC."""
    fleet.build()
    return fleet


def attach(fleet: Fleet, interface: object = "default", operation_id: str = "attach") -> Operation:
    return fleet.ask("instance.attach_interface", operation_id, instance="web", interface=interface)


def detach(fleet: Fleet, interface: str, operation_id: str = "detach") -> Operation:
    return fleet.ask("instance.detach_interface", operation_id, instance="web", interface=interface)


def macs(fleet: Fleet) -> list[str]:
    """What the record says."""
    return [port.mac for port in fleet.instance().ports]


def plugged(fleet: Fleet) -> list[str]:
    """What the domain has, which runs if the guest does."""
    return list(fleet.hosts[fleet.instance().host].outsider.list_nics(fleet.instance().id))


def links(fleet: Fleet) -> int:
    return len(fleet.hosts[fleet.instance().host].ports.fabric.list_links())


def deafen(fleet: Fleet) -> None:
    """The guest lets go of no NIC from now on."""

    def on_call(name: str, moment: Moment) -> None:
        if name == "hypervisor.ensure_nic_detached" and moment is Moment.BEFORE:
            raise Busy("the guest has not let go", delay_s=10.0)

    fleet.watch(on_call)


def test_a_guest_that_runs_gets_a_nic_and_has_it_after_its_next_start(guest: Fleet) -> None:
    attached = attach(guest)

    assert attached.phase is Phase.SUCCEEDED
    assert attached.result is not None
    assert [port["mac"] for port in attached.result["ports"]] == macs(guest)
    assert (len(macs(guest)), plugged(guest), links(guest)) == (2, macs(guest), 2)
    guest.ask("instance.reboot", "reboot", instance="web", type="hard")
    assert (plugged(guest), links(guest)) == (macs(guest), 2)
    assert audit(guest) == ()


def test_a_guest_that_is_off_gets_it_at_its_next_start(guest: Fleet) -> None:
    guest.ask("instance.stop", "stop", instance="web", timeout_s=0)
    assert attach(guest).phase is Phase.SUCCEEDED
    assert guest.instance().vm_state is VmState.STOPPED
    guest.ask("instance.start", "start", instance="web")
    assert plugged(guest) == macs(guest)


def test_a_nic_is_asked_for_with_all_that_a_build_may_ask(guest: Fleet) -> None:
    for name in ("web", "ssh"):
        make_group(guest, name)
    attach(
        guest,
        {
            "network": "default",
            "mac": "52:54:00:aa:bb:cc",
            "address": "10.152.3.4",
            "security_groups": ["web", "ssh"],
            "allowed_pairs": [{"address": "10.152.9.0/24"}],
            "qos": {"inbound": {"average_kib_s": 1000}},
            "queues": 2,
        },
    )
    port = guest.instance().ports[1]
    assert (port.index, port.mac, port.address, port.queues) == (1, "52:54:00:aa:bb:cc", "10.152.3.4", 2)
    assert port.security_groups == (security_group_id_for("web"), security_group_id_for("ssh"))
    assert [pair.address for pair in port.allowed_pairs] == ["10.152.9.0/24"]
    assert port.qos == Qos(inbound=Bandwidth(average_kib_s=1000))


@pytest.mark.parametrize("by", ["mac", "address", "id"])
def test_a_detached_nic_leaves_nothing_and_its_address_is_free(guest: Fleet, by: str) -> None:
    before = read_hosts(guest), read_held(guest)
    attach(guest)
    port = guest.instance().ports[1]

    assert detach(guest, getattr(port, by)).phase is Phase.SUCCEEDED

    assert (plugged(guest), links(guest)) == (macs(guest), 1)
    assert (read_hosts(guest), read_held(guest)) == before
    assert audit(guest) == ()
    again = guest.build("next", networks=[{"network": "default", "address": port.address, "mac": port.mac}])
    assert again.phase is Phase.SUCCEEDED


def test_nics_are_numbered_on_and_never_anew(guest: Fleet) -> None:
    attach(guest, operation_id="one")
    attach(guest, operation_id="two")
    detach(guest, guest.instance().ports[1].mac)
    attach(guest, operation_id="three")
    assert [port.index for port in guest.instance().ports] == [0, 2, 3]


def test_the_same_id_asked_twice_is_one_nic(guest: Fleet) -> None:
    attach(guest)
    attach(guest)
    assert len(macs(guest)) == 2


def test_a_mac_that_is_taken_is_refused_and_nothing_stays(guest: Fleet) -> None:
    before = read_held(guest)
    with pytest.raises(Refused, match=r"mac: .* belongs to port"):
        attach(guest, {"network": "default", "mac": macs(guest)[0]})
    assert read_held(guest) == before


def test_a_network_that_is_not_there_is_refused(guest: Fleet) -> None:
    with pytest.raises(Refused, match="there is no such network"):
        attach(guest, "nowhere")


def test_a_nic_that_is_not_there_is_not_detached(guest: Fleet) -> None:
    with pytest.raises(
        Refused, match="web has no NIC of that MAC, address or port id; see `taskvisor interface list web`"
    ):
        detach(guest, "52:54:00:00:00:01")


def test_an_instance_has_no_more_nics_than_this(fleet: Fleet) -> None:
    fleet.build(networks=["default"] * 8)
    with pytest.raises(Refused, match="web has 8 NICs, and may have no more"):
        attach(fleet)


def test_what_another_operation_holds_gets_no_nic_and_no_address_is_kept_for_it(guest: Fleet) -> None:
    guest.begin("instance.reboot", "reboot", instance="web", type="hard")
    before = read_held(guest)
    with pytest.raises(Conflicting):
        attach(guest)
    assert read_held(guest) == before


def test_a_guest_in_error_gets_no_nic(guest: Fleet) -> None:
    web = guest.instance()
    guest.store.admission.write_at_rest(web, replace(web, vm_state=VmState.ERROR), SAID_SO)
    with pytest.raises(Refused, match="attach_interface needs it to be one of: active, paused, stopped"):
        attach(guest)


def test_a_guest_that_does_not_let_go_keeps_its_nic_and_the_caller_is_told_why(guest: Fleet) -> None:
    attach(guest)
    port = guest.instance().ports[1]
    deafen(guest)

    failed = detach(guest, port.mac)

    assert failed.phase is Phase.FAILED
    assert failed.failure is not None
    assert failed.failure.message.startswith(f"guest web has not let go of NIC 1 ({port.mac}) in 160 s, so it stays")
    guest.restart()
    assert (len(macs(guest)), plugged(guest), links(guest)) == (2, macs(guest), 2)


def test_a_delete_in_the_midst_of_an_attachment_takes_the_nic_along(guest: Fleet) -> None:
    guest.begin("instance.attach_interface", "attach", instance="web", interface="default")
    guest.post.deliver(guest.post.chains[0])
    (host,) = guest.hosts.values()
    assert len(host.ports.fabric.list_links()) == 2

    guest.ask("instance.delete", "del", instance="web")

    assert host.ports.fabric.list_links() == ()
    assert read_held(guest) == {}


def test_an_attachment_that_fails_gives_its_address_back(guest: Fleet) -> None:
    before = read_held(guest)
    host = guest.hosts[guest.instance().host]
    host.outsider.ensure_domain_gone(guest.instance().id)

    failed = attach(guest)

    assert failed.phase is Phase.FAILED
    assert (len(macs(guest)), links(guest)) == (1, 1)
    assert {key for key in read_held(guest) if key.startswith("addresses")} == {
        key for key in before if key.startswith("addresses")
    }
    assert read_held(guest)["addresses:" + guest.instance().ports[0].network_id] == {
        guest.instance().ports[0].address: guest.instance().ports[0].id
    }
