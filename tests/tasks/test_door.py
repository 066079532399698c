"""Where requests come in: the same id is the same operation, and who is refused leaves nothing behind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.door import Admitted, Already
from taskvisor.flow.step import StepContext
from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import Busy, CannotAsk, Conflicting, IdInUse, NoCapacity, Refused, Retryable, TaskvisorError
from taskvisor.model.ids import HostName, OperationId, instance_id_for
from taskvisor.model.operation import Runner
from taskvisor.model.states import Phase, PowerState, TaskState, VmState
from tests.support.fleet import IMAGE, KEYS, SMALL, Fleet
from tests.support.spies import Moment
from tests.support.world import read_everything, read_held, read_hosts

ASKED: dict[str, Any] = {"name": "web", "image": IMAGE, "flavor": SMALL}
OP = OperationId("op")


def admitted(fleet: Fleet, flow: str, operation_id: str, **fields: Any) -> Admitted:
    answer = fleet.answer(flow, operation_id, fields)
    assert isinstance(answer, Admitted)
    return answer


class TestIds:
    def test_the_same_id_and_request_is_the_same_operation(self, fleet: Fleet) -> None:
        first = fleet.door.build(OP, dict(ASKED))
        before = read_everything(fleet.client)

        assert fleet.door.build(OP, dict(ASKED)) == first
        assert read_everything(fleet.client) == before

    def test_it_is_the_same_operation_after_it_has_ended_too(self, fleet: Fleet) -> None:
        fleet.build("web", "op")
        before = read_everything(fleet.client)

        again = fleet.door.build(OP, dict(ASKED))

        assert again == Admitted(operation=fleet.read("op"))
        assert read_everything(fleet.client) == before

    def test_a_request_spelled_differently_is_the_same_request(self, fleet: Fleet) -> None:
        first = fleet.door.build(OP, {**ASKED, "networks": [{"network": "default", "mac": "52:54:00:AB:CD:EF"}]})

        assert first == fleet.door.build(
            OP, {**ASKED, "networks": [{"network": "default", "mac": "52:54:00:ab:cd:ef"}], "ssh_keys": []}
        )

    def test_the_same_id_with_another_request_is_refused(self, fleet: Fleet) -> None:
        fleet.begin_build("web", "op")
        before = read_everything(fleet.client)

        for fields in ({"name": "other"}, {"image": "simulated://other"}, {"flavor": "m1.tiny"}, {"host": "h1"}):
            with pytest.raises(IdInUse, match="task id: op is that of another request .instance.build of web."):
                fleet.door.build(OP, {**ASKED, **fields})
        with pytest.raises(IdInUse):
            fleet.door.change("instance.delete", OP, {"instance": "web"})

        assert read_everything(fleet.client) == before

    def test_after_a_failure_the_id_may_be_used_for_another_request(self, fleet: Fleet) -> None:
        assert fleet.build("web", "op", image="/nosuch.qcow2").phase is Phase.FAILED

        again = fleet.build("web", "op")

        assert (again.phase, again.failure) == (Phase.SUCCEEDED, None)
        assert again.timeline[0].outcome == "done"
        assert [entry.outcome for entry in again.timeline].count("Refused") == 1
        assert len(fleet.store.catalog.list_operations()) == 1

    def test_after_a_failure_the_same_request_is_a_late_double(self, fleet: Fleet) -> None:
        failed = fleet.build("web", "op", image="/nosuch.qcow2")

        assert fleet.door.build(OP, {**ASKED, "image": "/nosuch.qcow2"}) == Admitted(operation=failed)

    def test_after_a_refusal_at_the_door_the_id_is_free(self, fleet: Fleet) -> None:
        with pytest.raises(Refused):
            fleet.door.build(OP, {**ASKED, "image": "nosuch"})

        assert fleet.build("web", "op").phase is Phase.SUCCEEDED

    @pytest.mark.parametrize("operation_id", ["", "a b", "a/b", 'a"b', "x" * 129, "é"])
    def test_an_id_that_is_none_of_ours_is_refused(self, fleet: Fleet, operation_id: str) -> None:
        with pytest.raises(Refused, match="task id: .*: must be 1 to 128 letters, digits or"):
            fleet.answer("instance.build", operation_id, ASKED)

    def test_twenty_messages_of_one_request_at_once_are_one_operation(self, fleet: Fleet) -> None:
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: fleet.door.build(OP, dict(ASKED)), range(20)))

        assert all(isinstance(answer, Admitted) and answer.operation.id == OP for answer in answers)
        assert len(fleet.store.catalog.list_instances()) == 1
        assert fleet.store.addresses.list_forgotten(1e12) == ()
        (host,) = fleet.store.hosts.list_hosts()
        assert (host.instances, host.used.vcpus) == (1, 1)

    def test_twenty_messages_of_one_request_fit_where_one_guest_fits(self, redis_url: str, memory_dir: Path) -> None:
        """The one that was let in took the room; its twins must not tell the caller that there is none."""
        fleet = Fleet(redis_url, memory_dir, memory_mib={"h1": 64})
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: fleet.door.build(OP, dict(ASKED)), range(20)))

        assert {answer.operation.id for answer in answers if isinstance(answer, Admitted)} == {OP}
        assert len(answers) == 20
        assert fleet.client.hlen(KEYS.addresses(fleet.instance("web").ports[0].network_id)) == 1
        fleet.close()

    @pytest.mark.parametrize("flow", ["instance.stop", "instance.reboot", "instance.snapshot", "instance.delete"])
    def test_twenty_messages_of_one_change_at_once_are_one_operation(self, fleet: Fleet, flow: str) -> None:
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


class TestRefusals:
    @pytest.mark.parametrize(("fields", "error", "sentence"), BAD_BUILDS)
    def test_a_refused_build_leaves_nothing_behind(
        self, fleet: Fleet, fields: dict[str, Any], error: type[TaskvisorError], sentence: str
    ) -> None:
        fleet.build("there")
        before, kept = read_everything(fleet.client), pool_keys(fleet)

        with pytest.raises(error, match=sentence):
            fleet.door.build(OP, {**ASKED, **fields})

        after = read_everything(fleet.client)
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
    def test_a_refused_change_leaves_nothing_behind(
        self, fleet: Fleet, flow: str, fields: dict[str, Any], sentence: str
    ) -> None:
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
                "instance web is building; start needs it to be one of: error, stopped",
            ),
            ("instance.start", VmState.PAUSED, "instance web is paused; start needs it to be one of: error, stopped"),
            ("instance.stop", VmState.PAUSED, "instance web is paused; stop needs it to be one of: active, error"),
            (
                "instance.reboot",
                VmState.BUILDING,
                "instance web is building; reboot needs it to be one of: active, error, paused, stopped, suspended",
            ),
            (
                "instance.snapshot",
                VmState.ERROR,
                "instance web is error; createImage needs it to be one of: active, paused, stopped, suspended",
            ),
        ],
    )
    def test_an_instance_in_another_state_is_named_with_it(
        self, fleet: Fleet, flow: str, state: VmState, sentence: str
    ) -> None:
        fleet.build()
        guest = fleet.instance()
        fleet.store.admission.write_at_rest(guest, replace(guest, vm_state=state))
        fields = {"instance": "web", **({"image": "gold"} if flow == "instance.snapshot" else {})}

        with pytest.raises(Refused) as refusal:
            fleet.answer(flow, "op", fields)

        assert str(refusal.value) == sentence

    def test_a_store_that_falls_silent_halfway_leaves_addresses_to_the_sweep(self, fleet: Fleet) -> None:
        hosts = SilentHosts()
        silent = replace(fleet.door, store=replace(fleet.store, hosts=hosts))  # type: ignore[arg-type]

        with pytest.raises(CannotAsk):
            silent.build(OP, dict(ASKED))

        assert fleet.store.addresses.list_forgotten(1e12) == ()
        assert fleet.build("web", "op").phase is Phase.SUCCEEDED


class SilentHosts:
    def list_hosts(self) -> None:
        raise CannotAsk("Redis did not answer")


def pool_keys(fleet: Fleet) -> set[str]:
    """What a network remembers of addresses that are nobody's: where to go on, and which are free again."""
    network_id = fleet.instance("there").ports[0].network_id
    return {KEYS.next_address(network_id), KEYS.freed(network_id)}


class TestAlready:
    def test_a_start_of_what_runs_and_a_stop_of_what_is_off_are_already_so(self, fleet: Fleet) -> None:
        fleet.build()
        assert is_already(fleet, "instance.start", vm_state="active", power_state="running")
        fleet.ask("instance.stop", "stop", instance="web")

        assert is_already(fleet, "instance.stop", vm_state="stopped", power_state="shutdown")

    @pytest.mark.parametrize("name", ["nosuch", "f426b70e-7e4d-54f8-836a-90454ef4c8db", "../etc"])
    def test_a_delete_of_what_is_not_there_is_already_so(self, fleet: Fleet, name: str) -> None:
        before = read_everything(fleet.client)

        answer = fleet.answer("instance.delete", "op", {"instance": name})

        assert answer == Already(result={"id": name, "name": name, "vm_state": "deleted", "already": True})
        assert read_everything(fleet.client) == before

    def test_a_delete_repeated_under_its_id_has_its_own_outcome(self, fleet: Fleet) -> None:
        fleet.build()
        fleet.ask("instance.delete", "op", instance="web")

        again = admitted(fleet, "instance.delete", "op", instance="web").operation

        assert (again.phase, again.result and again.result["already"]) == (Phase.SUCCEEDED, False)


def is_already(fleet: Fleet, flow: str, **expected: str) -> bool:
    before = read_everything(fleet.client)
    answer = fleet.answer(flow, "op", {"instance": "web"})
    assert isinstance(answer, Already)
    assert read_everything(fleet.client) == before
    return answer.result["already"] is True and all(answer.result[key] == value for key, value in expected.items())


class TestConflicts:
    def test_the_operation_that_holds_an_instance_is_named_with_its_step(self, fleet: Fleet) -> None:
        fleet.begin_build("web", "op")
        fleet.post.deliver(fleet.post.chains[0])

        with pytest.raises(Conflicting) as conflict:
            fleet.answer("instance.stop", "stop", {"instance": "web"})

        assert str(conflict.value) == (
            "instance web is held by operation op (instance.build, running, at step fetch_image);"
            " wait for it, or cancel it"
        )

    @pytest.mark.parametrize("flow", ["instance.start", "instance.stop", "instance.reboot", "instance.snapshot"])
    def test_nothing_but_a_delete_gets_past_another_operation(self, fleet: Fleet, flow: str) -> None:
        fleet.begin_build("web", "op")
        before = read_everything(fleet.client)

        with pytest.raises(Conflicting):
            fleet.answer(flow, "x", {"instance": "web", **({"image": "g"} if flow == "instance.snapshot" else {})})

        assert read_everything(fleet.client) == before

    def test_a_lease_whose_operation_is_forgotten_says_so(self, fleet: Fleet) -> None:
        fleet.begin_build("web", "op")
        fleet.client.delete(KEYS.operation("op"))

        with pytest.raises(Conflicting, match="held by operation op, of which no record is left"):
            fleet.answer("instance.stop", "stop", {"instance": "web"})
        assert fleet.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED
        assert read_held(fleet) == {}

    def test_a_change_decided_on_an_instance_that_changed_since_is_decided_again(self, fleet: Fleet) -> None:
        """Between its look and its write, another request comes, runs and ends."""
        fleet.build()
        meanwhile = Meanwhile(
            fleet, "read_holding", lambda: fleet.ask("instance.stop", "stop", instance="web") and None
        )

        answer = meanwhile.door.change("instance.stop", OP, {"instance": "web"})

        assert isinstance(answer, Already)
        assert fleet.instance().vm_state is VmState.STOPPED

    def test_a_change_of_an_instance_that_was_deleted_since_is_refused(self, fleet: Fleet) -> None:
        fleet.build()
        meanwhile = Meanwhile(
            fleet, "read_holding", lambda: fleet.ask("instance.delete", "del", instance="web") and None
        )

        with pytest.raises(Refused, match="there is no instance of that name"):
            meanwhile.door.change("instance.reboot", OP, {"instance": "web"})
        assert read_held(fleet) == {}

    def test_records_that_never_hold_still_are_looked_at_a_few_times(self, fleet: Fleet) -> None:
        fleet.build()
        states = [VmState.PAUSED, VmState.ACTIVE] * 10

        def change_it() -> None:
            guest = fleet.instance()
            fleet.store.admission.write_at_rest(guest, replace(guest, vm_state=states.pop()))

        always = Meanwhile(fleet, "read_holding", change_it, times=20)

        with pytest.raises(Conflicting, match="operation op: the records moved 10 times while it was looked at"):
            always.door.change("instance.reboot", OP, {"instance": "web"})


class Meanwhile:
    """A door to whose store something happens right after a look, so many times."""

    def __init__(self, fleet: Fleet, look: str, happen: Callable[[], None], *, times: int = 1) -> None:
        self._look = look
        self._happen = happen
        self._times = times
        self._admission = fleet.store.admission
        self.door = replace(fleet.door, store=replace(fleet.store, admission=self))  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._admission, name)
        if name != self._look or self._times == 0:
            return attribute

        def looked(*args: Any) -> Any:
            seen = attribute(*args)
            self._times -= 1
            self._happen()
            return seen

        return looked


class TestCancel:
    def test_the_wish_is_noted_once(self, fleet: Fleet) -> None:
        fleet.begin_build("web", "op")

        first = fleet.door.cancel("op".ljust(2))
        before = read_everything(fleet.client)

        assert first.cancel_requested
        assert fleet.door.cancel("op") == first
        assert read_everything(fleet.client) == before

    def test_a_cancelled_build_leaves_nothing(self, fleet: Fleet) -> None:
        fleet.begin_build("web", "op")
        for _ in range(3):
            fleet.post.deliver(fleet.post.chains[0])
        fleet.door.cancel("op")

        fleet.post.deliver_all()

        assert fleet.read("op").phase is Phase.CANCELLED
        assert read_held(fleet) == {}
        assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}

    def test_what_has_ended_stays_as_it_is(self, fleet: Fleet) -> None:
        done = fleet.build("web", "op")
        before = read_everything(fleet.client)

        assert fleet.door.cancel("op") == done
        assert read_everything(fleet.client) == before

    def test_a_delete_cannot_be_cancelled(self, fleet: Fleet) -> None:
        fleet.build()
        fleet.begin("instance.delete", "the-delete", instance="web")

        with pytest.raises(Refused) as refusal:
            fleet.door.cancel("the-d")

        assert str(refusal.value) == "operation the-delete deletes web; a delete cannot be cancelled"

    def test_an_operation_is_named_by_the_beginning_of_its_id(self, fleet: Fleet) -> None:
        fleet.begin_build("web", "build-one")

        assert fleet.door.cancel("build-o").id == "build-one"
        with pytest.raises(Refused, match="no such operation is known"):
            fleet.door.cancel("nope")

    def test_a_cancelled_change_leaves_the_guest_at_rest(self, fleet: Fleet) -> None:
        fleet.build()
        fleet.begin("instance.reboot", "op", instance="web")
        fleet.post.deliver(fleet.post.chains[0])
        fleet.door.cancel("op")

        fleet.post.deliver_all()

        guest = fleet.instance()
        assert (fleet.read("op").phase, guest.vm_state, guest.task_state, guest.fault) == (
            Phase.CANCELLED,
            VmState.ACTIVE,
            None,
            None,
        )
        fleet.hosts[HostName("h1")].report.sync_power_states()
        assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)


class TestRetry:
    def test_a_failed_build_begins_again_with_its_old_request(self, fleet: Fleet, tmp_path: Path) -> None:
        image = tmp_path / "late.raw"
        assert fleet.build("web", "op", image=str(image)).phase is Phase.FAILED
        image.write_bytes(bytes(510) + b"\x55\xaa")

        fleet.post.launch(fleet.door.retry("op"))
        fleet.post.deliver_all()

        assert (fleet.read("op").phase, fleet.instance().image_name) == (Phase.SUCCEEDED, str(image))

    def test_a_stuck_operation_goes_on_where_it_stopped(self, fleet: Fleet) -> None:
        operation = fleet.begin_build("web", "op")
        outsider = fleet.hosts[HostName("h1")].outsider
        outsider.ensure_foreign_domain(operation.instance_id, "stranger")
        fleet.post.deliver_all()
        stuck = fleet.read("op")
        assert (stuck.phase, stuck.current_step) == (Phase.STUCK, "define_and_start")
        outsider.ensure_domain_gone(operation.instance_id)

        fleet.post.launch(fleet.door.retry("op"))
        fleet.post.deliver_all()

        assert (fleet.read("op").phase, fleet.read("op").failure) == (Phase.SUCCEEDED, None)

    @pytest.mark.parametrize("end", ["running", "succeeded"])
    def test_what_has_not_failed_is_not_retried(self, fleet: Fleet, end: str) -> None:
        fleet.begin_build("web", "op")
        if end == "succeeded":
            fleet.post.deliver_all()

        with pytest.raises(Refused, match=f"operation op is {end}; only one that failed can be retried"):
            fleet.door.retry("op")

    def test_a_failed_delete_begins_again_even_if_another_operation_holds_the_instance(self, fleet: Fleet) -> None:
        fleet.build()
        fleet.use_ports(hypervisor=Failing())
        assert fleet.ask("instance.delete", "del", instance="web").phase is Phase.FAILED
        fleet.restart()
        fleet.begin("instance.reboot", "reboot", instance="web")

        fleet.post.chains.clear()
        fleet.post.launch(fleet.door.retry("del"))
        fleet.post.deliver_all()

        assert (fleet.read("del").phase, fleet.read("reboot").phase) == (Phase.SUCCEEDED, Phase.CANCELLED)
        assert read_held(fleet) == {}

    def test_a_change_of_a_guest_that_is_gone_is_not_retried(self, fleet: Fleet) -> None:
        fleet.build()
        fleet.begin("instance.reboot", "reboot", instance="web")
        fleet.door.cancel("reboot")
        fleet.post.deliver_all()
        fleet.ask("instance.delete", "del", instance="web")

        with pytest.raises(Refused, match="operation reboot: instance web is gone; there is nothing to retry"):
            fleet.door.retry("reboot")

    def test_a_build_that_a_delete_took_over_is_built_again(self, fleet: Fleet) -> None:
        fleet.begin_build("web", "op")
        fleet.post.deliver(fleet.post.chains[0])
        fleet.ask("instance.delete", "del", instance="web")
        assert fleet.read("op").phase is Phase.CANCELLED

        fleet.post.launch(fleet.door.retry("op"))
        fleet.post.deliver_all()

        assert (fleet.read("op").phase, fleet.instance().vm_state) == (Phase.SUCCEEDED, VmState.ACTIVE)


class Failing:
    """A hypervisor that can never be asked."""

    def __getattr__(self, verb: str) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise Retryable(f"cannot {verb}")

        return fail


class TestDeleteTakesOver:
    @pytest.mark.parametrize("done", range(5))
    def test_a_build_at_every_boundary_is_deleted_and_leaves_nothing(self, fleet: Fleet, done: int) -> None:
        fleet.begin_build("web", "op")
        for _ in range(done):
            fleet.post.deliver(fleet.post.chains[0])

        deleted = fleet.ask("instance.delete", "del", instance="web")

        assert (fleet.read("op").phase, deleted.phase) == (Phase.CANCELLED, Phase.SUCCEEDED)
        assert deleted.result == {
            "id": instance_id_for(OP),
            "name": "web",
            "vm_state": "deleted",
            "already": False,
        }
        assert read_held(fleet) == {}
        assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}

    @pytest.mark.parametrize(
        "call",
        [
            "disks.ensure_directory",
            "images.ensure_cached",
            "fabric.ensure_plugged",
            "hypervisor.ensure_defined",
            "hypervisor.ensure_running",
        ],
    )
    def test_a_build_whose_step_runs_is_stopped_after_it(self, fleet: Fleet, call: str) -> None:
        begin_during(fleet, call, lambda: fleet.begin("instance.delete", "del", instance="web") and None)
        fleet.begin_build("web", "op")
        fleet.post.deliver_all()

        built = fleet.read("op")
        assert fleet.read("del").phase is Phase.SUCCEEDED
        assert built.phase is (Phase.SUCCEEDED if call.startswith("hypervisor") else Phase.CANCELLED)
        assert read_held(fleet) == {}
        assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}

    def test_a_waiting_delete_holds_nothing_yet(self, fleet: Fleet) -> None:
        phases: list[Phase] = []

        def delete() -> None:
            fleet.begin("instance.delete", "del", instance="web")
            phases.append(fleet.read("del").phase)

        begin_during(fleet, "fabric.ensure_plugged", delete)
        fleet.build("web", "op")

        assert phases == [Phase.WAITING]

    def test_a_second_delete_waits_for_the_first(self, fleet: Fleet) -> None:
        fleet.build()
        fleet.begin("instance.delete", "del", instance="web")

        with pytest.raises(Busy, match="instance web is held by operation del .instance.delete, running"):
            fleet.answer("instance.delete", "del-2", {"instance": "web"})
        fleet.post.deliver_all()

        assert isinstance(fleet.answer("instance.delete", "del-2", {"instance": "web"}), Already)

    def test_a_second_delete_waits_for_one_that_waits(self, fleet: Fleet) -> None:
        refusals: list[str] = []

        def delete_twice() -> None:
            fleet.begin("instance.delete", "del", instance="web")
            with pytest.raises(Busy) as busy:
                fleet.answer("instance.delete", "del-2", {"instance": "web"})
            refusals.append(str(busy.value))

        begin_during(fleet, "fabric.ensure_plugged", delete_twice)
        fleet.build("web", "op")

        assert refusals == ["instance web: operation del waits to delete it"]

    def test_a_build_that_is_rolled_back_while_a_delete_waits_lets_it_end(self, fleet: Fleet) -> None:
        """The record stays until the delete has it: else the delete would find nothing to go by and fail."""

        def refuse_then_delete(name: str, moment: Moment) -> None:
            if name == "fabric.ensure_plugged" and moment is Moment.BEFORE:
                raise Refused("no")
            if name == "disks.ensure_removed" and moment is Moment.BEFORE and fleet.read("op").runner is not None:
                fleet.watch(lambda *_: None)
                fleet.begin("instance.delete", "del", instance="web")

        fleet.watch(refuse_then_delete)
        fleet.begin_build("web", "op")
        fleet.post.deliver_all()

        assert (fleet.read("op").phase, fleet.read("del").phase) == (Phase.FAILED, Phase.SUCCEEDED)
        assert read_held(fleet) == {}

    @pytest.mark.parametrize("call", ["hypervisor.copy_disk", "disks.publish"])
    def test_a_snapshot_is_taken_back_before_its_guest_is_deleted(self, fleet: Fleet, call: str) -> None:
        fleet.build()
        begin_during(fleet, call, lambda: fleet.begin("instance.delete", "del", instance="web") and None)
        fleet.ask("instance.snapshot", "snap", instance="web", image="gold")

        assert fleet.read("del").phase is Phase.SUCCEEDED
        if call == "hypervisor.copy_disk":
            assert fleet.read("snap").phase is Phase.CANCELLED
            assert read_held(fleet) == {}  # not even the image's name
            assert read_hosts(fleet)["h1"]["files"] == []
        else:  # it was its last step: the image is made, and stays
            assert fleet.read("snap").phase is Phase.SUCCEEDED
            assert sorted(read_held(fleet)) == ["image:gold", "images"]

    @pytest.mark.parametrize("done", [0, 1])
    def test_a_snapshot_between_two_steps_is_taken_back_too(self, fleet: Fleet, done: int) -> None:
        fleet.build()
        fleet.begin("instance.snapshot", "snap", instance="web", image="gold")
        for _ in range(done):
            fleet.post.deliver(fleet.post.chains[0])

        assert fleet.begin("instance.delete", "del", instance="web").phase is Phase.WAITING
        fleet.post.deliver_all()

        assert (fleet.read("snap").phase, fleet.read("del").phase) == (Phase.CANCELLED, Phase.SUCCEEDED)
        assert read_held(fleet) == {}
        assert read_hosts(fleet)["h1"]["files"] == []

    @pytest.mark.parametrize("state", ["stuck", "error", "stopped", "paused", "building"])
    def test_a_guest_in_any_state_is_deleted(self, fleet: Fleet, state: str) -> None:
        if state == "stuck":
            operation = fleet.begin_build("web", "op")
            fleet.hosts[HostName("h1")].outsider.ensure_foreign_domain(operation.instance_id, "stranger")
            fleet.post.deliver_all()
            fleet.hosts[HostName("h1")].outsider.ensure_domain_gone(operation.instance_id)
        else:
            fleet.build("web", "op")
            guest = fleet.instance()
            fleet.store.admission.write_at_rest(guest, replace(guest, vm_state=VmState(state)))

        deleted = fleet.ask("instance.delete", "del", instance="web")

        assert deleted.phase is Phase.SUCCEEDED
        assert read_held(fleet) == {}
        assert read_hosts(fleet)["h1"]["domains"] == []

    def test_an_instance_is_deleted_by_its_id_too(self, fleet: Fleet) -> None:
        operation = fleet.build()

        assert fleet.ask("instance.delete", "del", instance=operation.instance_id).phase is Phase.SUCCEEDED
        assert read_held(fleet) == {}

    def test_a_delete_of_a_guest_that_moved_between_look_and_write_goes_to_where_it_is(
        self, redis_url: str, memory_dir: Path
    ) -> None:
        fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"))
        refuse_once(fleet, "h1")
        fleet.begin_build("web", "op")
        while fleet.post.chains[0].steps[0] != "operation.settle":
            fleet.post.deliver(fleet.post.chains[0])
        meanwhile = Meanwhile(fleet, "read_holding", lambda: fleet.post.deliver(fleet.post.chains[0]))

        answer = meanwhile.door.change("instance.delete", OperationId("del"), {"instance": "web"})

        assert isinstance(answer, Admitted)
        assert answer.operation.host == "h2"
        fleet.post.launch(answer.operation)
        fleet.post.deliver_all()
        assert read_held(fleet) == {}
        fleet.close()


def begin_during(fleet: Fleet, call: str, begin: Callable[[], None]) -> None:
    """The first time that the port is called, something begins meanwhile."""
    begun: list[str] = []

    def on_call(name: str, moment: Moment) -> None:
        if name == call and moment is Moment.BEFORE and not begun:
            begun.append(name)
            begin()

    fleet.watch(on_call)


def refuse_once(fleet: Fleet, host: str) -> None:
    """The host says of the first guest that it does not fit."""
    from taskvisor.model.errors import DoesNotFit

    refused: list[str] = []

    def on_call(name: str, moment: Moment) -> None:
        if name == "images.ensure_cached" and moment is Moment.BEFORE and not refused:
            refused.append(name)
            raise DoesNotFit(f"host {host}: no room on its disk")

    fleet.watch(on_call, host=host)


def test_what_a_request_shows_at_once_is_its_first_steps_word(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.stop", "op", instance="web")

    assert fleet.instance().task_state is TaskState.POWERING_OFF


def test_a_wish_reaches_an_operation_that_a_runner_writes_at_the_same_time(fleet: Fleet) -> None:
    operation = fleet.begin_build("web", "op")
    runner = Runner(host=HostName("h1"), incarnation="first", pid=1)
    moved = replace(operation, revision=1, token=1, runner=runner)

    def move() -> None:
        fleet.store.journal.commit(Change(before=operation, after=moved, lease=LeaseMove.RENEW))

    catalog = MovingCatalog(fleet, move)
    door = replace(fleet.door, store=replace(fleet.store, catalog=catalog))  # type: ignore[arg-type]

    assert door.cancel("op").revision == 2


class MovingCatalog:
    """A catalog whose first answer is old before it is given."""

    def __init__(self, fleet: Fleet, move: Callable[[], None]) -> None:
        self._catalog = fleet.store.catalog
        self._moves = [move]

    def find_operation(self, prefix: str) -> object:
        found = self._catalog.find_operation(prefix)
        if self._moves:
            self._moves.pop()()
        return found


def test_nothing_here_touches_a_host(fleet: Fleet) -> None:
    calls: list[str] = []
    fleet.watch(lambda name, _: calls.append(name))

    fleet.begin_build()
    fleet.answer("instance.delete", "del", {"instance": "web"})

    assert calls == []


def ignore(_: StepContext) -> None:
    """Nothing is done."""
