"""Where requests come in: the same id is the same operation, and who is refused leaves nothing behind."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.door import Admitted, Already
from taskvisor.model.errors import CannotAsk, IdInUse, NoCapacity, Refused, TaskvisorError
from taskvisor.model.ids import OperationId
from taskvisor.model.states import Phase, TaskState, VmState
from tests.support.fleet import IMAGE, KEYS, SMALL, Fleet
from tests.support.records import SAID_SO
from tests.support.world import read_everything
from tests.tasks.doors import Meanwhile

ASKED: dict[str, Any] = {"name": "web", "image": IMAGE, "flavor": SMALL}
OP = OperationId("op")


def test_the_same_id_and_request_is_the_same_operation(fleet: Fleet) -> None:
    first = fleet.door.build(OP, dict(ASKED))
    before = read_everything(fleet.client)

    assert fleet.door.build(OP, dict(ASKED)) == first
    assert read_everything(fleet.client) == before


def test_it_is_the_same_operation_after_it_has_ended_too(fleet: Fleet) -> None:
    fleet.build("web", "op")
    before = read_everything(fleet.client)

    again = fleet.door.build(OP, dict(ASKED))

    assert again == Admitted(operation=fleet.read("op"))
    assert read_everything(fleet.client) == before


def test_a_request_spelled_differently_is_the_same_request(fleet: Fleet) -> None:
    first = fleet.door.build(OP, {**ASKED, "networks": [{"network": "default", "mac": "52:54:00:AB:CD:EF"}]})

    assert first == fleet.door.build(
        OP, {**ASKED, "networks": [{"network": "default", "mac": "52:54:00:ab:cd:ef"}], "ssh_keys": []}
    )


def test_the_same_id_with_another_request_is_refused(fleet: Fleet) -> None:
    fleet.begin_build("web", "op")
    before = read_everything(fleet.client)

    for fields in ({"name": "other"}, {"image": "simulated://other"}, {"flavor": "m1.tiny"}, {"host": "h1"}):
        with pytest.raises(IdInUse, match=r"task id: op is that of another request \(instance.build of web\)"):
            fleet.door.build(OP, {**ASKED, **fields})
    with pytest.raises(IdInUse):
        fleet.door.change("instance.delete", OP, {"instance": "web"})

    assert read_everything(fleet.client) == before


def test_after_a_failure_the_id_may_be_used_for_another_request(fleet: Fleet) -> None:
    assert fleet.build("web", "op", image="/nosuch.qcow2").phase is Phase.FAILED

    again = fleet.build("web", "op")

    assert (again.phase, again.failure) == (Phase.SUCCEEDED, None)
    assert again.timeline[0].outcome == "done"
    assert [entry.outcome for entry in again.timeline].count("Refused") == 1
    assert len(fleet.store.catalog.list_operations()) == 1


def test_after_a_failure_the_same_request_is_a_late_double(fleet: Fleet) -> None:
    failed = fleet.build("web", "op", image="/nosuch.qcow2")

    assert fleet.door.build(OP, {**ASKED, "image": "/nosuch.qcow2"}) == Admitted(operation=failed)


def test_after_a_refusal_at_the_door_the_id_is_free(fleet: Fleet) -> None:
    with pytest.raises(Refused):
        fleet.door.build(OP, {**ASKED, "image": "nosuch"})

    assert fleet.build("web", "op").phase is Phase.SUCCEEDED


@pytest.mark.parametrize("operation_id", ["", "a b", "a/b", 'a"b', "x" * 129, "é"])
def test_an_id_that_is_none_of_ours_is_refused(fleet: Fleet, operation_id: str) -> None:
    with pytest.raises(Refused, match=r"task id: .*: must be 1 to 128 letters, digits or"):
        fleet.answer("instance.build", operation_id, ASKED)


def test_twenty_messages_of_one_request_at_once_are_one_operation(fleet: Fleet) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: fleet.door.build(OP, dict(ASKED)), range(20)))

    assert all(isinstance(answer, Admitted) and answer.operation.id == OP for answer in answers)
    assert len(fleet.store.catalog.list_instances()) == 1
    assert fleet.store.addresses.list_forgotten(1e12) == ()
    (host,) = fleet.store.hosts.list_hosts()
    assert (host.instances, host.used.vcpus) == (1, 1)


def test_twenty_messages_of_one_request_fit_where_one_guest_fits(redis_url: str, memory_dir: Path) -> None:
    """The one that was let in took the room; its twins must not tell the caller that there is none."""
    fleet = Fleet(redis_url, memory_dir, memory_mib={"h1": 64})
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: fleet.door.build(OP, dict(ASKED)), range(20)))

    assert {answer.operation.id for answer in answers if isinstance(answer, Admitted)} == {OP}
    assert len(answers) == 20
    assert fleet.client.hlen(KEYS.addresses(fleet.instance("web").ports[0].network_id)) == 1
    fleet.close()


def test_a_twin_that_was_let_in_since_the_look_is_the_same_operation(redis_url: str, memory_dir: Path) -> None:
    """It took the only room: the second message of the request finds none, and must not say so to its caller."""
    fleet = Fleet(redis_url, memory_dir, memory_mib={"h1": 64})
    twin = Meanwhile(fleet, "addresses.allocate", lambda: fleet.door.build(OP, dict(ASKED)))

    answer = twin.door.build(OP, dict(ASKED))

    assert answer == Admitted(operation=fleet.read("op"))
    assert len(fleet.client.hgetall(KEYS.addresses(fleet.instance("web").ports[0].network_id))) == 1
    fleet.close()


def test_a_twin_that_comes_to_itself_when_the_guest_is_gone_again_keeps_no_address(fleet: Fleet) -> None:
    """It looked before the first message was let in; built and deleted was the guest while Redis did not answer it."""

    def whole_life() -> None:
        fleet.build("web", "op")
        fleet.ask("instance.delete", "delete-web", instance="web")

    twin = Meanwhile(fleet, "catalog.read_operation", whole_life)

    assert twin.door.build(OP, dict(ASKED)) == Admitted(operation=fleet.read("op"))
    assert fleet.store.addresses.list_forgotten(1e12) == ()
    assert fleet.client.keys(f"{KEYS.prefix}addresses:*") == []


@pytest.mark.parametrize("flow", ["instance.stop", "instance.reboot", "instance.delete"])
def test_a_change_whose_twin_was_let_in_since_the_look_is_the_same_operation(fleet: Fleet, flow: str) -> None:
    fleet.build()
    twin = Meanwhile(fleet, "catalog.find_instance_id", lambda: fleet.door.change(flow, OP, {"instance": "web"}))

    assert twin.door.change(flow, OP, {"instance": "web"}) == Admitted(operation=fleet.read("op"))


@pytest.mark.parametrize("flow", ["instance.stop", "instance.reboot", "instance.snapshot", "instance.delete"])
def test_twenty_messages_of_one_change_at_once_are_one_operation(fleet: Fleet, flow: str) -> None:
    fleet.build()
    fields = {"instance": "web", **({"image": "gold"} if flow == "instance.snapshot" else {})}

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: fleet.answer(flow, "op", fields), range(20)))

    assert all(isinstance(answer, Admitted) and answer.operation.id == OP for answer in answers)
    fleet.post.launch(fleet.read("op"))
    fleet.post.deliver_all()
    assert fleet.read("op").phase is Phase.SUCCEEDED


BAD_BUILDS: tuple[tuple[dict[str, Any], type[TaskvisorError], str], ...] = (
    ({"name": "<web>"}, Refused, "name: '<web>': must be 1 to 63 letters"),
    ({"image": "nosuch"}, Refused, "image: 'nosuch': no image of that name is registered"),
    ({"image": "ftp://x/y"}, Refused, "image: 'ftp://x/y': scheme 'ftp' is not known"),
    ({"flavor": "m1.huge"}, Refused, "flavor: 'm1.huge': there is no such flavor"),
    ({"networks": ["lab"]}, Refused, "networks: 'lab': there is no such network; known: default"),
    ({"networks": ["default", "lab"]}, Refused, "networks: 'lab': there is no such network; known: default"),
    (
        {"networks": ["default", {"network": "default", "address": "10.152.0.2"}]},
        Refused,
        "address: 10.152.0.2 on network 'default' belongs to port",
    ),
    (
        {"networks": ["default", {"network": "default", "address": "10.153.0.2"}]},
        Refused,
        "address: 10.153.0.2 is not in 10.152.0.0/16",
    ),
    ({"host": "h9"}, NoCapacity, "no host fits .*: h1: only host h9 was asked for"),
    ({"flavor": "c200-m65536-d1"}, NoCapacity, "no host fits .*: h1: memory_mib 65536 asked, 65472 of 65536 free"),
    ({"name": "there"}, Refused, "name: 'there' is the name of instance"),
)


@pytest.mark.parametrize(("fields", "error", "sentence"), BAD_BUILDS)
def test_a_refused_build_leaves_nothing_behind(
    fleet: Fleet, fields: dict[str, Any], error: type[TaskvisorError], sentence: str
) -> None:
    fleet.build("there")
    before, kept = read_everything(fleet.client), pool_keys(fleet)

    with pytest.raises(error, match=sentence):
        fleet.door.build(OP, {**ASKED, **fields})

    after = read_everything(fleet.client)
    kept.add("taskvisor:why:op")  # its explanation, which expires
    assert {key: digest for key, digest in after.items() if key not in kept} == {
        key: digest for key, digest in before.items() if key not in kept
    }


@pytest.mark.parametrize(
    ("flow", "fields", "sentence"),
    [
        ("instance.start", {"instance": "nosuch"}, "instance: 'nosuch': there is no instance of that name or id"),
        ("instance.stop", {"instance": "web", "timeout_s": -1}, "timeout_s: -1"),
        ("instance.stop", {"instance": "web", "force": True}, "force: unknown field"),
        ("instance.reboot", {"instance": "web", "type": "warm"}, "type: 'warm'"),
        ("instance.snapshot", {"instance": "web"}, "image: missing"),
        ("instance.snapshot", {"instance": "web", "image": "gold"}, "image: 'gold' is the name of image"),
        ("instance.delete", {}, "instance: missing"),
    ],
)
def test_a_refused_change_leaves_nothing_behind(fleet: Fleet, flow: str, fields: dict[str, Any], sentence: str) -> None:
    fleet.build()
    fleet.ask("instance.snapshot", "first", instance="web", image="gold")
    before = read_everything(fleet.client)

    with pytest.raises(Refused, match=sentence):
        fleet.answer(flow, "op", fields)

    assert read_everything(fleet.client) == before


@pytest.mark.parametrize(
    ("flow", "state", "sentence"),
    [
        (
            "instance.start",
            VmState.BUILDING,
            "instance web is building; start needs it to be one of: error, stopped;"
            " only `taskvisor delete web` may be asked of it",
        ),
        (
            "instance.start",
            VmState.PAUSED,
            "instance web is paused; start needs it to be one of: error, stopped; `taskvisor reboot web` makes it active",
        ),
        (
            "instance.stop",
            VmState.PAUSED,
            "instance web is paused; stop needs it to be one of: active, error; `taskvisor reboot web` makes it active",
        ),
        (
            "instance.reboot",
            VmState.BUILDING,
            "instance web is building; reboot needs it to be one of: active, error, paused, stopped, suspended;"
            " only `taskvisor delete web` may be asked of it",
        ),
        (
            "instance.snapshot",
            VmState.ERROR,
            "instance web is error; snapshot needs it to be one of: active, paused, stopped, suspended;"
            " `taskvisor start web` makes it active",
        ),
    ],
)
def test_an_instance_in_another_state_is_named_with_it(fleet: Fleet, flow: str, state: VmState, sentence: str) -> None:
    fleet.build()
    guest = fleet.instance()
    fleet.store.admission.write_at_rest(guest, replace(guest, vm_state=state), SAID_SO)
    fields = {"instance": "web", **({"image": "gold"} if flow == "instance.snapshot" else {})}

    with pytest.raises(Refused) as refusal:
        fleet.answer(flow, "op", fields)

    assert str(refusal.value) == sentence


def test_a_store_that_falls_silent_halfway_leaves_addresses_to_the_sweep(fleet: Fleet) -> None:
    silent = replace(fleet.door, store=replace(fleet.store, fleet=SilentFleet()))  # type: ignore[arg-type]

    with pytest.raises(CannotAsk):
        silent.build(OP, dict(ASKED))

    assert fleet.store.addresses.list_forgotten(1e12) == ()
    assert fleet.build("web", "op").phase is Phase.SUCCEEDED


def test_a_start_of_what_runs_and_a_stop_of_what_is_off_are_already_so(fleet: Fleet) -> None:
    fleet.build()
    assert is_already(fleet, "instance.start", vm_state="active", power_state="running")
    fleet.ask("instance.stop", "stop", instance="web")

    assert is_already(fleet, "instance.stop", vm_state="stopped", power_state="shutdown")


@pytest.mark.parametrize("name", ["nosuch", "f426b70e-7e4d-54f8-836a-90454ef4c8db", "../etc"])
def test_a_delete_of_what_is_not_there_is_already_so(fleet: Fleet, name: str) -> None:
    before = read_everything(fleet.client)

    answer = fleet.answer("instance.delete", "op", {"instance": name})

    assert answer == Already(result={"id": name, "name": name, "vm_state": "deleted", "already": True})
    assert read_everything(fleet.client) == before


def test_a_delete_repeated_under_its_id_has_its_own_outcome(fleet: Fleet) -> None:
    fleet.build()
    fleet.ask("instance.delete", "op", instance="web")

    again = admitted(fleet, "instance.delete", "op", instance="web").operation

    assert (again.phase, again.result and again.result["already"]) == (Phase.SUCCEEDED, False)


def test_what_a_request_shows_at_once_is_its_first_steps_word(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.stop", "op", instance="web")

    assert fleet.instance().task_state is TaskState.POWERING_OFF


def test_nothing_here_touches_a_host(fleet: Fleet) -> None:
    calls: list[str] = []
    fleet.watch(lambda name, _: calls.append(name))

    fleet.begin_build()
    fleet.answer("instance.delete", "del", {"instance": "web"})

    assert calls == []


def admitted(fleet: Fleet, flow: str, operation_id: str, **fields: Any) -> Admitted:
    answer = fleet.answer(flow, operation_id, fields)
    assert isinstance(answer, Admitted)
    return answer


class SilentFleet:
    def look(self) -> None:
        raise CannotAsk("Redis did not answer")


def pool_keys(fleet: Fleet) -> set[str]:
    """What a network remembers of addresses that are nobody's: where to go on, and which are free again."""
    network_id = fleet.instance("there").ports[0].network_id
    return {KEYS.next_address(network_id), KEYS.freed(network_id)}


def is_already(fleet: Fleet, flow: str, **expected: str) -> bool:
    before = read_everything(fleet.client)
    answer = fleet.answer(flow, "op", {"instance": "web"})
    assert isinstance(answer, Already)
    assert read_everything(fleet.client) == before
    return answer.result["already"] is True and all(answer.result[key] == value for key, value in expected.items())
