"""What no record is of is quarantined, confirmed much later, and then dealt with by policy; nothing else is ever touched."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.orphan_requests import OrphanDoor
from taskvisor.compute.orphans import OrphanPolicy, fate_of
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.orphan import Orphan, OrphanAction, OrphanKind
from taskvisor.model.states import PowerState
from tests.compute.corruptions import GHOST, as_ghost, host, vif_of_ghost, xml_of_web
from tests.support.audits import audit
from tests.support.fleet import KEYS, Fleet
from tests.support.images import PlainAnswers
from tests.support.network_desk import open_network_desk
from tests.support.patrol import CONFIRM_S, REAP, look, look_much_later, lose_record, patrol_of
from tests.support.spies import DieAt, WorkerDied
from tests.support.world import read_held, read_hosts

VOLUME = "nfs://filer/export/lost.raw"
STOP, LOG, NOOP = (
    OrphanPolicy(action=one, confirm_s=CONFIRM_S) for one in (OrphanAction.STOP, OrphanAction.LOG, OrphanAction.NOOP)
)
OF_A_GUEST = {OrphanKind.DOMAIN, OrphanKind.LINK, OrphanKind.CONNECTION, OrphanKind.DIRECTORY, OrphanKind.CLAIM}


def kinds(fleet: Fleet) -> set[OrphanKind]:
    return {orphan.stray.kind for orphan in quarantine(fleet).values()}


def quarantine(fleet: Fleet) -> dict[str, Orphan]:
    return dict(fleet.store.orphans.read(HostName("h1")).orphans)


def with_orphan(fleet: Fleet, name: str = "lost") -> InstanceId:
    """A host that the store has known for a while, with a guest of which the record was lost since."""
    if fleet.store.catalog.find_instance("web") is None:
        fleet.build("web")
    look(fleet)
    fleet.build(name, volumes=[VOLUME])
    return lose_record(fleet, name)


def world(fleet: Fleet) -> object:
    return read_hosts(fleet), read_held(fleet)


def test_nothing_is_in_quarantine_on_a_fleet_at_work(fleet: Fleet) -> None:
    fleet.build("web", volumes=[VOLUME])
    fleet.ask("instance.snapshot", "snap", instance="web", image="gold")
    fleet.begin_build("mid")
    assert (look(fleet), look_much_later(fleet), quarantine(fleet)) == (0, 0, {})


def test_all_of_a_guest_without_a_record_is_reaped_after_the_second_look_and_its_disks_are_set_aside(
    fleet: Fleet,
) -> None:
    fleet.build("web")
    before = world(fleet)
    lost = with_orphan(fleet)

    assert look(fleet) == len(OF_A_GUEST)
    assert kinds(fleet) == OF_A_GUEST
    fleet.clock.sleep(CONFIRM_S - 60)
    look(fleet)
    assert kinds(fleet) == OF_A_GUEST, "an hour has not gone by"
    fleet.clock.sleep(61)
    look(fleet)

    assert world(fleet) == before
    assert quarantine(fleet) == {}
    (aside,) = (host(fleet).root / "quarantine").iterdir()
    assert aside.name.startswith(lost)
    assert lost in (aside / "domain.xml").read_text()
    assert (aside / "owner.json").exists()


def test_what_was_set_aside_is_removed_after_its_time_and_not_before(fleet: Fleet) -> None:
    with_orphan(fleet)
    look(fleet)
    look_much_later(fleet)
    fleet.clock.sleep(REAP.keep_s - 60)
    look(fleet)
    assert len(host(fleet).ports.disks.list_set_aside()) == 1
    fleet.clock.sleep(120)
    look(fleet)
    assert host(fleet).ports.disks.list_set_aside() == ()


@pytest.mark.parametrize(
    ("policy", "power"), [(NOOP, PowerState.RUNNING), (LOG, PowerState.RUNNING), (STOP, PowerState.SHUTDOWN)]
)
def test_other_policies_take_nothing_away(fleet: Fleet, policy: OrphanPolicy, power: PowerState) -> None:
    lost = with_orphan(fleet)
    look(fleet, policy)
    look_much_later(fleet, policy)
    found = {domain.instance_id: domain.power_state for domain in host(fleet).ports.hypervisor.list_domains()}
    assert found[lost] is power
    assert kinds(fleet) == OF_A_GUEST


def test_what_gets_its_record_back_leaves_the_quarantine(fleet: Fleet) -> None:
    fleet.build("web")
    look(fleet)
    record = str(fleet.client.get(KEYS.instance(fleet.instance().id)))
    fleet.build("other")
    lost = lose_record(fleet, "web")
    look(fleet)
    fleet.client.set(KEYS.instance(lost), record)
    before = read_hosts(fleet)
    look_much_later(fleet)
    assert (quarantine(fleet), read_hosts(fleet)) == ({}, before)


def test_a_record_that_comes_back_between_the_look_and_the_act_saves_its_guest(fleet: Fleet) -> None:
    fleet.build("web")
    look(fleet)
    record = str(fleet.client.get(KEYS.instance(fleet.instance().id)))
    fleet.build("other")
    lost = lose_record(fleet, "web")
    look(fleet)
    before = read_hosts(fleet)
    fleet.clock.sleep(CONFIRM_S + 1)

    def come_back(name: str, *_: object) -> None:
        if name == "orphans.put":
            fleet.client.set(KEYS.instance(lost), record)

    patrol_of(fleet, on_call=come_back).run()
    assert read_hosts(fleet) == before


def test_a_flushed_store_makes_nobody_an_orphan(fleet: Fleet) -> None:
    fleet.build("web")
    look(fleet)
    fleet.client.flushdb()
    before = read_hosts(fleet)
    host(fleet).report.track()
    fleet.note_alive("h1")
    fleet.build("other")
    look(fleet)
    guests = read_hosts(fleet)
    look_much_later(fleet)
    look_much_later(fleet)
    assert read_hosts(fleet) == guests
    assert before["h1"]["domains"][0] in guests["h1"]["domains"]
    assert {fate_of(orphan, REAP) for orphan in quarantine(fleet).values()} == {
        "stays: it was there before the store knew this host: rebuild its record, or remove it by hand"
    }


def test_a_store_that_was_restored_from_an_older_copy_makes_nobody_an_orphan(fleet: Fleet) -> None:
    fleet.build("web")
    look(fleet)
    older = fleet.client.hget(KEYS.birth, "ticks:h1")
    fleet.build("young")
    look(fleet)
    lose_record(fleet, "young")
    fleet.client.hset(KEYS.birth, "ticks:h1", int(older or 0) - 1)
    guests = read_hosts(fleet)
    look(fleet)
    look_much_later(fleet)
    look_much_later(fleet)
    assert read_hosts(fleet) == guests


def test_an_empty_store_makes_nobody_an_orphan(fleet: Fleet) -> None:
    look(fleet)
    fleet.build("lost")
    lose_record(fleet, "lost")
    guests = read_hosts(fleet)
    look(fleet)
    look_much_later(fleet)
    assert read_hosts(fleet) == guests


def test_a_host_that_can_not_be_asked_confirms_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with_orphan(fleet)
    look(fleet)
    guests, noted = read_hosts(fleet), quarantine(fleet)

    def silent() -> object:
        raise CannotAsk("libvirtd did not answer")

    with monkeypatch.context() as patched:
        patched.setattr(host(fleet).ports.hypervisor, "list_domains", silent)
        with pytest.raises(CannotAsk):
            look_much_later(fleet)
    assert (read_hosts(fleet), quarantine(fleet)) == (guests, noted)


def test_a_record_that_can_not_be_read_is_a_record(fleet: Fleet) -> None:
    fleet.build("web")
    look(fleet)
    fleet.build("other")
    fleet.client.set(KEYS.instance(fleet.instance().id), "{")
    guests = read_hosts(fleet)
    look(fleet)
    look_much_later(fleet)
    assert (read_hosts(fleet), quarantine(fleet)) == (guests, {})


def test_a_domain_and_a_link_that_another_installation_made_are_told_of_and_left_alone(fleet: Fleet) -> None:
    fleet.build("web")
    look(fleet)
    host(fleet).ports.hypervisor.ensure_defined(GHOST, as_ghost(xml_of_web(fleet), fleet))
    vif = vif_of_ghost(fleet)
    host(fleet).ports.fabric.ensure_plugged(vif)
    (host(fleet).root / "remembered" / f"{vif.tap}.json").unlink()
    guests = read_hosts(fleet)
    look(fleet)
    look_much_later(fleet)
    assert read_hosts(fleet) == guests
    fates = {orphan.stray.kind: fate_of(orphan, REAP) for orphan in quarantine(fleet).values()}
    assert (
        fates[OrphanKind.DOMAIN] == fates[OrphanKind.LINK] == "stays: nothing here shows that this installation made it"
    )


def test_an_operator_keeps_an_orphan_by_its_instance(fleet: Fleet) -> None:
    lost = with_orphan(fleet)
    look(fleet)
    door = OrphanDoor(store=fleet.store, answers=PlainAnswers())
    with pytest.raises(Refused, match="nothing that is in quarantine"):
        door.keep(OperationId("no"), {"orphan": "nonesuch"})
    door.keep(OperationId("keep"), {"orphan": lost})
    guests = read_hosts(fleet)
    look_much_later(fleet)
    look_much_later(fleet)
    assert read_hosts(fleet) == guests
    assert {fate_of(orphan, REAP) for orphan in quarantine(fleet).values()} == {"stays: an operator keeps it"}


def test_the_request_to_keep_one_is_taken_as_any_other(fleet: Fleet, redis_url: str) -> None:
    lost = with_orphan(fleet)
    look(fleet)
    with open_network_desk(redis_url, fleet) as desk:
        told = desk.ask("fleet.keep_orphan", orphan=lost)
        assert told == {"kept": {"h1": sorted(quarantine(fleet))}}
        with pytest.raises(Refused, match="orphan"):
            desk.ask("fleet.keep_orphan")
    assert all(orphan.kept for orphan in quarantine(fleet).values())


def test_after_a_restart_of_redis_the_wait_begins_anew(fleet: Fleet, tmp_path: Path) -> None:
    del tmp_path
    with_orphan(fleet)
    look(fleet)
    patrol = patrol_of(fleet)
    memory = patrol.notes.read()
    assert memory is not None
    patrol.notes.write(replace(memory, run="another"))
    guests = read_hosts(fleet)
    look_much_later(fleet)
    assert read_hosts(fleet) == guests
    look_much_later(fleet)
    assert quarantine(fleet) == {}


def test_a_node_that_dies_at_any_moment_of_a_reap_leaves_the_rest_to_the_next_look(fleet: Fleet) -> None:
    fleet.build("web")
    before, number = world(fleet), 0
    while True:
        number += 1
        with_orphan(fleet, f"lost-{number}")
        look(fleet)
        fleet.clock.sleep(CONFIRM_S + 1)
        death = DieAt(number)
        try:
            patrol_of(fleet, on_call=death).run()
        except WorkerDied:
            look(fleet)
            look_much_later(fleet)
        assert world(fleet) == before, f"died at {death.died_at}"
        assert quarantine(fleet) == {}
        if death.died_at is None:
            break
    assert number > 40
    assert audit(fleet) == ()
