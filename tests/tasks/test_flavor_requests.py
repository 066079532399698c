"""Flavors that are made, changed and deleted by request, and what they are to builds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from taskvisor.model.errors import IdInUse, Refused, StoreConflict
from taskvisor.model.flavor_record import FlavorRecord
from taskvisor.model.flavors import DEFAULT_FLAVORS
from taskvisor.model.ids import FlavorId, OperationId, flavor_id_for
from taskvisor.model.records import Flavor
from taskvisor.model.states import Phase, VmState
from tests.support.flavors import SIZE, FlavorDesk
from tests.support.fleet import KEYS, Fleet
from tests.support.world import read_everything
from tests.tasks.doors import refuse_once

PINNED = {"hw:cpu_policy": "dedicated"}


@pytest.fixture
def desk(fleet: Fleet) -> FlavorDesk:
    return FlavorDesk(fleet)


def names(fleet: Fleet) -> list[str]:
    return [record.flavor.name for record in fleet.store.flavors.list()]


def found(fleet: Fleet, name: str) -> FlavorRecord:
    record = fleet.store.flavors.look_up(name)
    assert record is not None
    return record


def test_a_flavor_is_what_was_asked_and_its_caller_is_told(fleet: Fleet, desk: FlavorDesk) -> None:
    told = desk.create("gp1 large", swap_mib=64, ephemeral_gib=5, extra_specs=PINNED, public=False, projects=["b", "a"])

    made = FlavorRecord(
        id=flavor_id_for(OperationId("make")),
        flavor=Flavor(
            name="gp1 large", vcpus=2, memory_mib=256, disk_gib=3, swap_mib=64, ephemeral_gib=5, extra_specs=PINNED
        ),
        public=False,
        projects=("a", "b"),
        created_at=fleet.clock.now(),
    )
    assert found(fleet, "gp1 large") == found(fleet, made.id) == made
    assert told == {
        "id": made.id,
        "name": "gp1 large",
        **SIZE,
        "swap_mib": 64,
        "ephemeral_gib": 5,
        "extra_specs": PINNED,
        "public": False,
        "projects": ["a", "b"],
    }


def test_the_default_flavors_are_there_before_anything_is_recorded_and_after(fleet: Fleet, desk: FlavorDesk) -> None:
    assert names(fleet) == sorted(DEFAULT_FLAVORS)
    assert found(fleet, "m1.tiny") == found(fleet, DEFAULT_FLAVORS["m1.tiny"].id) == DEFAULT_FLAVORS["m1.tiny"]
    assert not fleet.client.exists(KEYS.flavors)

    desk.create("own")

    assert names(fleet) == sorted([*DEFAULT_FLAVORS, "own"])
    assert found(fleet, "m1.tiny") == found(fleet, DEFAULT_FLAVORS["m1.tiny"].id) == DEFAULT_FLAVORS["m1.tiny"]


def test_a_default_flavor_that_is_deleted_stays_deleted_also_with_all_others(fleet: Fleet, desk: FlavorDesk) -> None:
    for name in DEFAULT_FLAVORS:
        told = desk.ask(desk.door.delete, f"delete-{name}", flavor=name)
        assert told == {"id": DEFAULT_FLAVORS[name].id, "name": name, "state": "deleted"}

    assert names(fleet) == []
    with pytest.raises(Refused, match=r"flavor: 'm1\.tiny': there is no such flavor"):
        fleet.build(flavor="m1.tiny")
    assert fleet.build(flavor="c1-m64-d1").phase is Phase.SUCCEEDED


def test_the_same_request_twice_is_one_flavor_and_one_answer(fleet: Fleet, desk: FlavorDesk) -> None:
    first = desk.create("own")
    before = read_everything(fleet.client)
    fleet.clock.sleep(5.0)

    assert desk.create("own") == first
    assert read_everything(fleet.client) == before


def test_the_same_flavor_under_another_id_is_the_same_flavor(fleet: Fleet, desk: FlavorDesk) -> None:
    first = desk.create("own", id="7")
    fleet.clock.sleep(5.0)

    assert desk.create("own", request_id="another") == {**first, "already": True}
    assert desk.create("own", id="7", request_id="third") == {**first, "already": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "own", "vcpus": 3},
        {"name": "own", "id": "8"},
        {"name": "other", "id": "7"},
        {"name": "7"},
        {"name": "other", "id": "own"},
        {"name": "m1.tiny"},
        {"name": "own", "extra_specs": PINNED},
    ],
)
def test_another_flavor_of_that_name_or_id_is_refused(fleet: Fleet, desk: FlavorDesk, fields: dict[str, Any]) -> None:
    desk.create("own", id="7")
    before = read_everything(fleet.client)

    with pytest.raises(Refused, match="there is another flavor of that name or id"):
        desk.create(request_id="another", **fields)

    assert read_everything(fleet.client) == before


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"memory_mib": 0}, "memory_mib: 0: input should be greater than or equal to 16"),
        ({"memory_mib": 15}, "memory_mib: 15: input should be greater than or equal to 16"),
        ({"vcpus": 0}, "vcpus: 0: input should be greater than or equal to 1"),
        ({"disk_gib": -1}, "disk_gib: -1: input should be greater than or equal to 0"),
        ({"swap_mib": -1}, "swap_mib: -1: input should be greater than or equal to 0"),
        ({"memory_mib": "512"}, "memory_mib: '512': input should be a valid integer"),
        ({"name": ""}, "name: '': string should have at least 1 character"),
        ({"name": " x"}, "name: ' x': must be 1 to 255 printable characters, without a space at either end"),
        ({"name": "a\nb"}, "name: 'a\\nb': must be 1 to 255 printable characters, without a space at either end"),
        ({"name": "x" * 256}, f"name: '{'x' * 78}…: string should have at most 255 characters"),
        (
            {"name": "c1-m512-d1"},
            "name: 'c1-m512-d1': spells out a size, which needs no record; choose a name that does not",
        ),
        ({"id": "a/b"}, "id: 'a/b': must be letters, digits, _, ., - or spaces, without a space at either end"),
        ({"projects": ["lab"]}, "projects: a public flavor is everybody's; leave them out, or say public: false"),
        ({"public": "no"}, "public: 'no': input should be a valid boolean"),
        ({"rxtx_factor": 1.0}, "rxtx_factor: unknown field; remove it or check its spelling"),
        (
            {"extra_specs": {"hw:cpu_polcy": "shared"}},
            "extra_specs: the flavor says 'hw:cpu_polcy', which is no known option of a flavor; the nearest one is"
            " hw:cpu_policy; correct it or remove it",
        ),
        (
            {"extra_specs": {"hw:cpu_policy": "mine"}},
            "extra_specs: hw:cpu_policy='mine': must be one of shared, dedicated, mixed",
        ),
        (
            {"extra_specs": {"hw:cpu_thread_policy": "isolate"}},
            "extra_specs: hw:cpu_thread_policy: needs hw:cpu_policy=dedicated or mixed; set it, or leave both out",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_field_value_and_rule(
    fleet: Fleet, desk: FlavorDesk, fields: dict[str, Any], sentence: str
) -> None:
    before = read_everything(fleet.client)

    with pytest.raises(Refused) as refusal:
        desk.create(**{"name": "own", **fields})

    assert str(refusal.value).endswith(sentence)
    assert read_everything(fleet.client) == before


def test_extra_specs_are_set_and_unset_one_by_one(fleet: Fleet, desk: FlavorDesk) -> None:
    desk.create("own", extra_specs={"quota:cpu_shares": "100"})

    told = desk.ask(desk.door.set_specs, "set", flavor="own", extra_specs={"hw:cpu_cores": "2"})
    assert told["extra_specs"] == {"quota:cpu_shares": "100", "hw:cpu_cores": "2"}
    again = desk.ask(desk.door.set_specs, "set2", flavor="own", extra_specs={"hw:cpu_cores": "2"})
    assert again == {**told, "already": True}

    desk.ask(desk.door.unset_specs, "unset", flavor="own", keys=["quota:cpu_shares", "never:set"])
    assert found(fleet, "own").flavor.extra_specs == {"hw:cpu_cores": "2"}


def test_extra_specs_that_contradict_those_that_are_there_are_refused(fleet: Fleet, desk: FlavorDesk) -> None:
    desk.create("own", extra_specs={**PINNED, "hw:cpu_thread_policy": "isolate"})
    before = read_everything(fleet.client)

    with pytest.raises(Refused, match="hw:cpu_thread_policy: needs hw:cpu_policy=dedicated"):
        desk.ask(desk.door.unset_specs, "unset", flavor="own", keys=["hw:cpu_policy"])
    specs = {"hw:cpu_model": "Nehalem", "hw:cpu_mode": "host-model"}
    with pytest.raises(Refused, match="hw:cpu_model=Nehalem: the mode host-model takes no model"):
        desk.ask(desk.door.set_specs, "set", flavor="own", extra_specs=specs)

    assert read_everything(fleet.client) == before


def test_a_flavor_that_is_not_there_cannot_be_changed_and_is_deleted_already(fleet: Fleet, desk: FlavorDesk) -> None:
    for request, fields in (
        (desk.door.set_specs, {"extra_specs": PINNED}),
        (desk.door.unset_specs, {"keys": ["a"]}),
        (desk.door.add_access, {"project": "lab"}),
        (desk.door.remove_access, {"project": "lab"}),
    ):
        with pytest.raises(Refused, match="flavor: 'none': there is no such flavor; see `taskvisor flavor list`"):
            desk.ask(request, "change", flavor="none", **fields)

    told = desk.ask(desk.door.delete, "delete", flavor="none")
    assert told == {"id": "none", "name": "none", "state": "deleted", "already": True}


def test_a_private_flavor_is_there_for_its_projects_only(fleet: Fleet, desk: FlavorDesk) -> None:
    desk.create("own", public=False, projects=["lab"])
    unknown = "flavor: 'own': there is no such flavor; see `taskvisor flavor list`, or give a size like c1-m512-d1"

    for project in ({}, {"project": "default"}, {"project": "other"}):
        with pytest.raises(Refused) as refusal:
            fleet.build(flavor="own", **project)
        assert str(refusal.value) == unknown
    assert fleet.build(flavor="own", project="lab").phase is Phase.SUCCEEDED
    assert (fleet.instance().project, fleet.instance().flavor.name) == ("lab", "own")


def test_projects_are_given_a_private_flavor_and_lose_it_while_what_they_built_stays(
    fleet: Fleet, desk: FlavorDesk
) -> None:
    desk.create("own", public=False)
    told = desk.ask(desk.door.add_access, "add", flavor="own", project="lab")
    assert told["projects"] == ["lab"]
    assert desk.ask(desk.door.add_access, "add2", flavor="own", project="lab") == {**told, "already": True}
    fleet.build(flavor="own", project="lab")

    desk.ask(desk.door.remove_access, "remove", flavor="own", project="lab")

    with pytest.raises(Refused, match="flavor: 'own': there is no such flavor"):
        fleet.build("web-2", flavor="own", project="lab")
    assert fleet.ask("instance.reboot", "reboot", instance="web").phase is Phase.SUCCEEDED


def test_access_to_a_public_flavor_cannot_be_given_or_taken(fleet: Fleet, desk: FlavorDesk) -> None:
    for number, request in enumerate((desk.door.add_access, desk.door.remove_access)):
        with pytest.raises(Refused, match=r"flavor: 'm1\.tiny' is public, so every project may have it"):
            desk.ask(request, f"change-{number}", flavor="m1.tiny", project="lab")


def test_a_flavor_that_is_deleted_and_made_anew_with_other_sizes_changes_no_instance(
    fleet: Fleet, desk: FlavorDesk
) -> None:
    desk.create("own", extra_specs={"hw:cpu_cores": "2"})
    fleet.build(flavor="own")
    built = fleet.instance()
    xml = fleet.read("build-web").facts["render_xml"]["xml"]

    desk.ask(desk.door.delete, "delete", flavor="own")
    fleet.ask("instance.stop", "stop", instance="web", timeout_s=0)
    fleet.ask("instance.start", "start-1", instance="web")
    assert fleet.read("start-1").facts["render_xml"]["xml"] == xml
    desk.create("own", request_id="anew", vcpus=8, memory_mib=1024)
    fleet.ask("instance.reboot", "reboot-1", instance="web", type="hard")
    assert fleet.read("reboot-1").facts["render_xml"]["xml"] == xml

    assert (fleet.instance().flavor, fleet.instance().vm_state) == (built.flavor, VmState.ACTIVE)
    assert built.flavor == Flavor(name="own", vcpus=2, memory_mib=256, disk_gib=3, extra_specs={"hw:cpu_cores": "2"})


@pytest.mark.parametrize("anew", [True, False])
def test_a_build_goes_to_its_next_host_with_the_flavor_that_it_began_with(three_hosts: Fleet, anew: bool) -> None:
    desk = FlavorDesk(three_hosts)
    desk.create("own")
    refuse_once(three_hosts, "h1")
    three_hosts.begin_build(flavor="own")
    desk.ask(desk.door.delete, "delete", flavor="own")
    if anew:
        desk.create("own", request_id="anew", vcpus=8, memory_mib=1024)

    three_hosts.post.deliver_all()

    built = three_hosts.read("build-web")
    assert (built.phase, built.host, built.excluded_hosts) == (Phase.SUCCEEDED, "h2", ("h1",)), built.failure
    assert (three_hosts.instance().flavor.vcpus, three_hosts.instance().flavor.memory_mib) == (2, 256)
    used = three_hosts.client.hgetall(KEYS.used("h2"))
    assert (used["vcpus"], used["memory_mib"]) == ("2", "256")


def test_a_repeated_request_is_the_same_operation_whatever_became_of_its_flavor(fleet: Fleet, desk: FlavorDesk) -> None:
    desk.create("own")
    built = fleet.build(flavor="own")
    desk.ask(desk.door.delete, "delete", flavor="own")

    assert fleet.build(flavor="own") == built


def test_an_id_of_an_operation_cannot_be_a_requests(fleet: Fleet, desk: FlavorDesk) -> None:
    fleet.build()

    with pytest.raises(IdInUse):
        desk.create("own", request_id="build-web")


def test_a_change_made_on_an_old_look_is_not_written(fleet: Fleet, desk: FlavorDesk) -> None:
    desk.create("own")
    seen, there = fleet.store.flavors.read_revision(), found(fleet, "own")
    desk.ask(desk.door.set_specs, "set", flavor="own", extra_specs=PINNED)
    answer = desk.door.answers.answer_for(OperationId("late"), {})

    for write in (fleet.store.flavor_changes.change, fleet.store.flavor_changes.delete):
        with pytest.raises(StoreConflict):
            write(there, seen, answer)
    with pytest.raises(StoreConflict):
        fleet.store.flavor_changes.create(replace(there, id=FlavorId("new")), seen, answer)

    assert found(fleet, "own").flavor.extra_specs == PINNED
    assert not fleet.client.exists("result:late")


def test_of_many_who_make_one_name_at_once_one_makes_it(fleet: Fleet) -> None:
    def make(number: int) -> str:
        try:
            FlavorDesk(fleet).create("own", request_id=f"make-{number}", vcpus=number)
        except Refused as refused:
            return str(refused)
        return "made"

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(make, range(1, 9)))

    assert told.count("made") == 1
    assert all(said.startswith("name: 'own'") for said in told if said != "made"), told
    assert found(fleet, "own").flavor.vcpus == told.index("made") + 1


def test_keys_of_other_flavors_are_left_alone_by_a_delete(fleet: Fleet, desk: FlavorDesk) -> None:
    desk.create("own")
    before = read_everything(fleet.client)
    desk.create("other", request_id="make-other")
    desk.ask(desk.door.delete, "delete", flavor="other")

    after = read_everything(fleet.client)
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    assert changed == {KEYS.revisions, "result:make-other", "result:delete"}
