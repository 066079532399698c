"""Hosts are emptied and given back: what becomes of guests, operations and newcomers, also when somebody dies in between."""

from collections.abc import Callable
from typing import Any

import pytest

from taskvisor.model.drain import DrainPhase, Fate
from taskvisor.model.errors import DoesNotFit, NoCapacity, Refused
from taskvisor.model.host_mark import HostAct
from taskvisor.model.ids import HostName
from taskvisor.model.states import Phase, VmState
from taskvisor.state.host_events import HostEvents
from tests.support.fleet import KEYS, Fleet
from tests.support.host_desk import HostDesk
from tests.support.records import claim, instance, operation
from tests.support.world import read_everything

H1 = HostName("h1")
STOP = {"guests": "stop"}


@pytest.fixture
def desk(fleet: Fleet) -> HostDesk:
    return HostDesk(fleet)


def fates(desk: HostDesk, **fields: Any) -> dict[str, str]:
    plan = desk.ask("plan_drain", host="h1", **fields)
    return {one["name"]: one["fate"] for one in plan["prospects"]}


def test_a_host_on_which_nothing_runs_is_drained_at_the_first_look(desk: HostDesk) -> None:
    told = desk.ask("drain", host="h1", reason="new kernel", by="ann")

    assert (told["phase"], told["reason"], told["by"]) == ("draining", "new kernel", "ann")
    assert desk.drain_to_its_end().phase is DrainPhase.DRAINED
    assert (desk.host().disabled_reason, desk.host().draining) == ("drained: new kernel", DrainPhase.DRAINED)


def test_newcomers_are_refused_with_the_drain_as_the_reason(desk: HostDesk, fleet: Fleet) -> None:
    desk.ask("drain", host="h1", reason="new kernel")

    with pytest.raises(NoCapacity, match="h1: it is disabled: draining: new kernel"):
        fleet.build("late")


def test_a_claim_by_who_looked_before_the_drain_is_refused_by_the_store(desk: HostDesk, fleet: Fleet) -> None:
    guest = instance("late", "build-late", ports=())
    desk.ask("drain", host="h1", reason="new kernel")

    with pytest.raises(DoesNotFit, match="host h1: it is disabled: draining: new kernel"):
        fleet.store.admission.admit_build(operation("build-late", guest), guest, claim(guest))


def test_the_plan_says_what_becomes_of_each_guest_and_changes_nothing(desk: HostDesk, fleet: Fleet) -> None:
    for name in ("a", "b"):
        fleet.build(name)
    fleet.ask("instance.stop", "stop-b", instance="b")
    fleet.begin("instance.reboot", "reboot-a", instance="a")
    fleet.begin_build("c")
    before = read_everything(fleet.client)

    assert fates(desk) == {"a": "busy", "b": "off", "c": "busy"}
    assert fates(desk, builds="cancel") == {"a": "busy", "b": "off", "c": "cancels"}
    assert read_everything(fleet.client) == before
    fleet.post.deliver_all()
    assert fates(desk, **STOP) == {"a": "stops", "b": "off", "c": "stops"}
    assert fates(desk) == {"a": "stays", "b": "off", "c": "stays"}


def test_guests_are_stopped_by_ordinary_operations_no_more_than_so_many_at_once(desk: HostDesk, fleet: Fleet) -> None:
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        fleet.build(name)
    desk.ask("drain", host="h1", reason="new kernel", **STOP)
    most = 0

    def count() -> None:
        nonlocal most
        under_way = fleet.store.catalog.list_unsettled_on(H1)
        most = max(most, len(under_way))

    fleet.post.between = count
    drain = desk.drain_to_its_end()

    assert (drain.phase, drain.prospects, most) == (DrainPhase.DRAINED, (), 2)
    assert {fleet.instance(name).vm_state for name in names} == {VmState.STOPPED}
    assert set(drain.stopped) == {fleet.instance(name).id for name in names}


def test_undrain_starts_the_guests_that_the_drain_stopped_and_no_others(desk: HostDesk, fleet: Fleet) -> None:
    for name in ("a", "b", "off", "gone"):
        fleet.build(name)
    fleet.ask("instance.stop", "stop-off", instance="off")
    desk.ask("drain", host="h1", reason="new kernel", **STOP)
    desk.drain_to_its_end()
    fleet.ask("instance.delete", "delete-gone", instance="gone")

    told = desk.ask("undrain", host="h1", start_guests=True)

    assert (told["phase"], told["disabled_reason"]) == ("starting", None)
    assert desk.host().disabled_reason is None
    drain = desk.drain_to_its_end()
    assert (drain.phase, drain.stopped, drain.prospects) == (DrainPhase.OVER, (), ())
    states = {name: fleet.instance(name).vm_state for name in ("a", "b", "off")}
    assert states == {"a": VmState.ACTIVE, "b": VmState.ACTIVE, "off": VmState.STOPPED}
    assert desk.ask("undrain", host="h1", start_guests=True)["already"] is True


def test_guests_may_be_started_after_the_host_was_given_back(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    desk.ask("drain", host="h1", reason="new kernel", **STOP)
    desk.drain_to_its_end()
    desk.ask("undrain", host="h1")
    assert fleet.instance("a").vm_state is VmState.STOPPED

    desk.ask("undrain", host="h1", start_guests=True)
    desk.drain_to_its_end()

    assert fleet.instance("a").vm_state is VmState.ACTIVE


def test_what_remains_at_the_deadline_is_told(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    desk.ask("drain", host="h1", reason="new kernel", deadline_s=60)
    desk.look()
    assert desk.read().phase is DrainPhase.DRAINING

    fleet.clock.sleep(61)
    drain = desk.drain_to_its_end()

    assert drain.phase is DrainPhase.PARTIAL
    assert [(one.name, one.fate) for one in drain.prospects] == [("a", Fate.STAYS)]
    assert desk.host().disabled_reason == "partial: new kernel"
    assert fleet.instance("a").vm_state is VmState.ACTIVE


def test_a_guest_that_its_owner_deletes_is_waited_for_until_it_is_gone(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    desk.ask("drain", host="h1", reason="new kernel")
    desk.look()

    fleet.ask("instance.delete", "delete-a", instance="a")

    assert desk.drain_to_its_end().phase is DrainPhase.DRAINED


def test_running_operations_are_waited_for_before_a_guest_is_stopped(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    fleet.begin("instance.reboot", "reboot-a", instance="a")
    desk.ask("drain", host="h1", reason="new kernel", **STOP)
    desk.look()
    assert [(one.name, one.fate) for one in desk.read().prospects] == [("a", Fate.BUSY)]

    assert desk.drain_to_its_end().phase is DrainPhase.DRAINED
    assert fleet.read("reboot-a").phase is Phase.SUCCEEDED
    assert fleet.instance("a").vm_state is VmState.STOPPED


def test_builds_that_have_not_begun_are_cancelled_when_that_is_asked(desk: HostDesk, fleet: Fleet) -> None:
    fleet.begin_build("a")
    desk.ask("drain", host="h1", reason="new kernel", builds="cancel")

    assert desk.drain_to_its_end().phase is DrainPhase.DRAINED
    assert fleet.read("build-a").phase is Phase.CANCELLED
    assert fleet.store.catalog.find_instance("a") is None


def test_a_drain_of_a_host_that_is_down_stops_nothing_and_concludes_nothing(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    fleet.client.delete(KEYS.alive("h1"))

    plan = desk.ask("plan_drain", host="h1", **STOP)
    assert (plan["up"], plan["prospects"][0]["fate"]) == (False, "unreachable")
    desk.ask("drain", host="h1", reason="new kernel", deadline_s=60, **STOP)
    desk.look()
    assert fleet.store.catalog.list_unsettled_on(H1) == ()

    fleet.note_alive("h1")
    assert desk.drain_to_its_end().phase is DrainPhase.DRAINED


def test_a_guest_that_does_not_stop_is_tried_three_times_and_told(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    fleet.watch(_refuse("hypervisor.request_shutdown"))
    desk.ask("drain", host="h1", reason="new kernel", deadline_s=100, **STOP)

    drain = desk.drain_to_its_end()

    assert (drain.phase, [one.fate for one in drain.prospects]) == (DrainPhase.PARTIAL, [Fate.FAILED])
    assert drain.prospects[0].why == "was not stopped, tried 3 times: h1 says no"
    assert sum(one.flow == "instance.stop" for one in fleet.store.catalog.list_operations()) == 3


def _refuse(call: str) -> Callable[..., None]:
    def on_call(name: str, *_: object) -> None:
        if name == call:
            raise Refused("h1 says no")

    return on_call


def test_the_same_request_again_is_the_same_drain(desk: HostDesk) -> None:
    first = desk.ask("drain", "the-drain", host="h1", reason="new kernel")
    again = desk.ask("drain", "the-drain", host="h1", reason="new kernel")

    assert first == again
    assert desk.read().revision == 0


def test_a_second_drain_is_refused_with_whose_the_first_is(desk: HostDesk) -> None:
    desk.ask("drain", "the-drain", host="h1", reason="new kernel", by="ann")

    with pytest.raises(Refused, match=r"'h1' is being drained already, by ann \(new kernel; request the-drain\)"):
        desk.ask("drain", host="h1", reason="new disks", by="bob")


def test_a_host_that_is_drained_anew_still_knows_what_was_stopped_before(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    desk.ask("drain", host="h1", reason="new kernel", **STOP)
    stopped = desk.drain_to_its_end().stopped

    desk.ask("drain", host="h1", reason="new disks", **STOP)

    assert desk.drain_to_its_end().stopped == stopped
    assert desk.ask("undrain", host="h1")["disabled_reason"] is None


def test_a_host_that_was_disabled_before_is_disabled_so_afterwards(desk: HostDesk, fleet: Fleet) -> None:
    fleet.client.hset(KEYS.host("h1"), "disabled", "noisy fan")
    desk.ask("drain", host="h1", reason="new kernel")
    desk.drain_to_its_end()

    assert desk.ask("undrain", host="h1")["disabled_reason"] == "noisy fan"
    assert desk.host().disabled_reason == "noisy fan"
    with pytest.raises(Refused, match=r"'h1' is disabled, and by no drain \(noisy fan\)"):
        desk.ask("undrain", host="h1")


def test_a_host_that_somebody_enables_is_not_drained_on(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    desk.ask("drain", host="h1", reason="new kernel")
    fleet.client.hdel(KEYS.host("h1"), "disabled")

    assert desk.drain_to_its_end().phase is DrainPhase.OVER
    assert (desk.host().disabled_reason, desk.host().draining) == (None, None)


def test_a_host_that_somebody_disables_for_more_than_the_drain_stays_so(desk: HostDesk, fleet: Fleet) -> None:
    desk.ask("drain", host="h1", reason="new kernel")
    fleet.client.hset(KEYS.host("h1"), "disabled", "on fire")

    assert desk.drain_to_its_end().phase is DrainPhase.DRAINED
    assert desk.ask("undrain", host="h1")["disabled_reason"] == "on fire"
    assert desk.host().disabled_reason == "on fire"


def test_a_drain_that_is_ended_early_leaves_the_other_guests_running(desk: HostDesk, fleet: Fleet) -> None:
    for name in ("a", "b", "c"):
        fleet.build(name)
    desk.ask("drain", host="h1", reason="new kernel", **STOP)
    desk.look()  # two stops are asked for
    desk.ask("undrain", host="h1", start_guests=True)

    assert desk.drain_to_its_end().phase is DrainPhase.OVER
    assert {fleet.instance(name).vm_state for name in ("a", "b", "c")} == {VmState.ACTIVE}


def test_a_record_that_cannot_be_read_is_in_the_way(desk: HostDesk, fleet: Fleet) -> None:
    fleet.build("a")
    fleet.ask("instance.stop", "stop-a", instance="a")
    fleet.client.set(KEYS.instance(fleet.instance("a").id), "{")
    desk.ask("drain", host="h1", reason="new kernel", deadline_s=60)

    drain = desk.drain_to_its_end()

    assert (drain.phase, [one.why for one in drain.prospects]) == (DrainPhase.PARTIAL, ["can't be read"])


@pytest.mark.parametrize(
    ("act", "fields", "sentence"),
    [
        ("drain", {"host": "nope", "reason": "x"}, "host: 'nope': no host of that name ever reported"),
        ("plan_drain", {"host": "nope"}, "host: 'nope': no host of that name ever reported"),
        ("undrain", {"host": "nope"}, "host: 'nope': no host of that name ever reported"),
        ("force_down", {"host": "nope", "reason": "x"}, "host: 'nope': no host of that name ever reported"),
        ("drain", {"host": "h1.control", "reason": "x"}, "is the name of a queue, and of no host"),
        ("remove", {"host": "h1.inflight.h1", "reason": "x"}, "is the name of a queue, and of no host"),
        ("drain", {"host": "../h1", "reason": "x"}, "host: '../h1'"),
        ("drain", {"host": "h1"}, "reason"),
        ("drain", {"host": "h1", "reason": " "}, "reason: ' '"),
        ("drain", {"host": "h1", "reason": "x", "deadline_s": 0}, "deadline_s: 0: must lie ahead"),
        ("drain", {"host": "h1", "reason": "x", "deadline_s": -60}, "deadline_s: -60: must lie ahead"),
        ("drain", {"host": "h1", "reason": "x", "deadline_s": 10**9}, "deadline_s: 1000000000"),
        ("drain", {"host": "h1", "reason": "x", "guests": "kill"}, "guests: 'kill'"),
        ("remove", {"host": "h1"}, "reason"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    desk: HostDesk, fleet: Fleet, act: str, fields: dict[str, Any], sentence: str
) -> None:
    before = fleet.client.dbsize()

    with pytest.raises(Refused) as refused:
        desk.ask(act, **fields)

    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert fleet.client.dbsize() == before


def test_who_drained_and_why_is_recorded(desk: HostDesk, fleet: Fleet) -> None:
    desk.ask("drain", host="h1", reason="new kernel", by="ann")
    desk.drain_to_its_end()
    desk.ask("undrain", host="h1", by="bob")

    events = HostEvents(fleet.client, KEYS).list_of(H1)

    assert [(event.act, event.by, event.reason, event.outcome) for event in events] == [
        (HostAct.UNDRAIN, "bob", "", "over"),
        (HostAct.DRAIN_ENDED, "ann", "new kernel", "drained"),
        (HostAct.DRAIN, "ann", "new kernel", "draining"),
    ]
    assert [(event.flow, event.host) for event in fleet.events.read_after("0", wait_s=0.1)] == [
        ("host.drain", "h1"),
        ("host.drain_ended", "h1"),
        ("host.undrain", "h1"),
    ]


class Dies(Exception):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 7))
def test_whoever_dies_before_or_after_any_write_of_a_drain_the_next_look_comes_to_the_same_end(
    desk: HostDesk, fleet: Fleet, when: str, number: int
) -> None:
    for name in ("a", "b", "c"):
        fleet.build(name)
    desk.ask("drain", host="h1", reason="new kernel", **STOP)

    with pytest.raises(Dies):
        _drain_dying(desk, when, number)

    drain = desk.drain_to_its_end()
    assert drain.phase is DrainPhase.DRAINED
    assert len(drain.stopped) == 3
    stops = [one for one in fleet.store.catalog.list_operations() if one.flow == "instance.stop"]
    assert [one.phase for one in stops] == [Phase.SUCCEEDED] * 3
    desk.ask("undrain", host="h1", start_guests=True)
    desk.drain_to_its_end()
    assert {fleet.instance(name).vm_state for name in ("a", "b", "c")} == {VmState.ACTIVE}


def _drain_dying(desk: HostDesk, when: str, number: int) -> None:
    """Carried on by one who dies at his so many-th write: of the drain, or of an operation that he lets in."""
    fleet, written = desk.fleet, 0

    def dying(part: Any, verbs: tuple[str, ...]) -> Any:
        class Mortal:
            def __getattr__(self, verb: str) -> Any:
                attribute = getattr(part, verb)
                return attribute if verb not in verbs else lambda *args, **named: self._call(attribute, args, named)

            def _call(self, function: Callable[..., Any], args: Any, named: Any) -> Any:
                nonlocal written
                written += 1
                if written == number and when == "before":
                    raise Dies
                result = function(*args, **named)
                if written == number:
                    raise Dies
                return result

        return Mortal()

    drainer = desk.with_door(
        drain_changes=dying(fleet.store.drain_changes, ("write",)),
        admission=dying(fleet.store.admission, ("admit_change",)),
    )
    for _ in range(20):
        drainer.advance_all(not_looked_at_for_s=0.0)
        fleet.post.deliver_all()
        fleet.clock.sleep(2.0)
    raise AssertionError(f"it wrote {written} times only")
