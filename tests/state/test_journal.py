"""The journal in Redis: one look, one write, and who is refused."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import Fenced, StoreConflict, UnreadableRecord
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Operation, Runner
from taskvisor.model.records import Instance, Resources
from taskvisor.model.states import Phase, TaskState, VmState
from taskvisor.state.admission import Admission, Lease
from taskvisor.state.catalog import Catalog
from taskvisor.state.hosts import Hosts
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.writing import Outcome, Writer
from tests.support.records import claim, image, instance, operation
from tests.support.world import read_everything

RUNNER = Runner(host=HostName("h1"), incarnation="first", pid=1)


@pytest.fixture
def guest() -> Instance:
    """A guest without NICs that is being built."""
    return instance(ports=(), vm_state=VmState.BUILDING)


@pytest.fixture
def accepted(admission: Admission, guest: Instance) -> Operation:
    """Its build, which holds its lease."""
    build = operation("build-web", guest)
    admission.admit_build(build, guest, claim(guest))
    return build


def begun(before: Operation) -> Operation:
    return replace(before, revision=before.revision + 1, token=before.token + 1, runner=RUNNER)


def moved(before: Operation, **fields: object) -> Operation:
    changed: Operation = replace(before, revision=before.revision + 1, **fields)  # type: ignore[arg-type]
    return changed


def test_an_operation_and_its_instance_are_read_in_one_look(
    journal: RedisJournal, accepted: Operation, guest: Instance
) -> None:
    loaded = journal.load(accepted.id)

    assert loaded is not None
    assert (loaded.operation, loaded.instance) == (accepted, guest)


def test_an_operation_that_nobody_knows_is_none(journal: RedisJournal) -> None:
    assert journal.load(OperationId("nobody's")) is None


def test_an_operation_whose_instance_has_no_record_is_still_read(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation
) -> None:
    client.delete(keys.instance(accepted.instance_id))

    loaded = journal.load(accepted.id)

    assert loaded is not None
    assert (loaded.operation, loaded.instance) == (accepted, None)


def test_a_request_that_looks_like_a_record_does_not_mislead_the_look(
    admission: Admission, journal: RedisJournal, guest: Instance
) -> None:
    build = operation("build-web", guest, request={"user_data": '"instance_id":"elsewhere"', "instance_id": "x"})
    admission.admit_build(build, guest, claim(guest))

    loaded = journal.load(build.id)

    assert loaded is not None
    assert loaded.instance == guest


def test_a_begun_step_renews_the_lease_and_shows_the_task_state(
    admission: Admission, journal: RedisJournal, catalog: Catalog, accepted: Operation, guest: Instance
) -> None:
    shown = replace(guest, task_state=TaskState.SPAWNING)

    journal.commit(Change(before=accepted, after=begun(accepted), lease=LeaseMove.RENEW, instance=shown))

    holding = admission.read_holding(guest.id)
    assert holding is not None
    assert (holding.lease, holding.instance) == (Lease(operation_id=accepted.id, token=1), shown)
    assert catalog.read_operation(accepted.id) == begun(accepted)


def test_who_read_an_older_record_writes_nothing(
    client: redis.Redis, journal: RedisJournal, accepted: Operation
) -> None:
    journal.commit(Change(before=accepted, after=moved(accepted, cancel_requested=True), lease=LeaseMove.WATCH))
    before = read_everything(client)

    with pytest.raises(StoreConflict, match="operation build-web is at revision 1, not 0"):
        journal.commit(Change(before=accepted, after=begun(accepted), lease=LeaseMove.RENEW))

    assert read_everything(client) == before


def test_who_has_an_old_token_writes_nothing(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation
) -> None:
    client.hset(keys.lease(accepted.instance_id), "token", 5)
    before = read_everything(client)

    with pytest.raises(Fenced, match="has moved on, to 5"):
        journal.commit(Change(before=accepted, after=begun(accepted), lease=LeaseMove.RENEW))

    assert read_everything(client) == before


@pytest.mark.parametrize("move", [move for move in LeaseMove if move is not LeaseMove.WATCH])
def test_who_does_not_hold_the_lease_writes_nothing(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation, move: LeaseMove
) -> None:
    client.hset(keys.lease(accepted.instance_id), "op", "another")
    before = read_everything(client)

    with pytest.raises(Fenced, match=f"the lease of instance {accepted.instance_id} has moved on, to another"):
        journal.commit(Change(before=accepted, after=begun(accepted), lease=move))

    assert read_everything(client) == before


def test_a_lease_that_is_gone_is_fenced_too(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation
) -> None:
    client.delete(keys.lease(accepted.instance_id))

    with pytest.raises(Fenced, match="to nobody"):
        journal.commit(Change(before=accepted, after=begun(accepted), lease=LeaseMove.RENEW))


def test_a_bystanders_note_needs_no_lease(
    client: redis.Redis, keys: Keys, journal: RedisJournal, catalog: Catalog, accepted: Operation
) -> None:
    client.delete(keys.lease(accepted.instance_id))
    noted = moved(accepted, cancel_requested=True)

    journal.commit(Change(before=accepted, after=noted, lease=LeaseMove.WATCH))

    assert catalog.read_operation(accepted.id) == noted


def test_a_write_that_comes_again_after_its_answer_was_lost_does_nothing(
    client: redis.Redis, journal: RedisJournal, accepted: Operation
) -> None:
    change = Change(before=accepted, after=begun(accepted), lease=LeaseMove.RENEW)
    journal.commit(change)
    before = read_everything(client)

    journal.commit(change)

    assert read_everything(client) == before


def test_the_end_of_an_operation_that_comes_again_does_nothing(
    client: redis.Redis, journal: RedisJournal, accepted: Operation, guest: Instance
) -> None:
    ended = moved(accepted, phase=Phase.FAILED, settled_at=2.0)
    change = Change(before=accepted, after=ended, lease=LeaseMove.RELEASE, instance=guest, forget_instance=True)
    journal.commit(change)
    before = read_everything(client)

    journal.commit(change)

    assert read_everything(client) == before


def test_the_last_record_of_an_instance_takes_everything_with_it(
    client: redis.Redis, keys: Keys, journal: RedisJournal, hosts: Hosts, accepted: Operation, guest: Instance
) -> None:
    ended = moved(accepted, phase=Phase.FAILED, settled_at=2.0)

    journal.commit(Change(before=accepted, after=ended, lease=LeaseMove.RELEASE, instance=guest, forget_instance=True))

    assert set(read_everything(client)) == {
        keys.operation(accepted.id),
        keys.operations,
        keys.events,
        keys.counters,
        keys.used(guest.host),
        keys.hosts_moved,
        keys.revisions,
    }
    assert client.hgetall(keys.used(guest.host)) == {"vcpus": "0", "memory_mib": "0", "disk_gib": "0"}
    assert hosts.list_claims(guest.host) == ()


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase.settled])
def test_an_ended_operation_expires_but_a_stuck_one_stays(
    client: redis.Redis, keys: Keys, journal: RedisJournal, catalog: Catalog, accepted: Operation, phase: Phase
) -> None:
    journal.commit(Change(before=accepted, after=moved(accepted, phase=phase, settled_at=2.0)))

    ttl = client.ttl(keys.operation(accepted.id))
    assert ttl == -1 if phase is Phase.STUCK else 0 < ttl <= 3600
    assert catalog.list_unsettled(before=1e12) == ()
    assert catalog.list_unsettled_on(accepted.host) == ()


def test_an_operation_that_begins_again_does_not_expire(
    client: redis.Redis, keys: Keys, journal: RedisJournal, catalog: Catalog, accepted: Operation
) -> None:
    ended = moved(accepted, phase=Phase.FAILED)
    journal.commit(Change(before=accepted, after=ended))

    journal.commit(Change(before=ended, after=moved(ended, phase=Phase.RUNNING)))

    assert client.ttl(keys.operation(accepted.id)) == -1
    assert catalog.list_unsettled_on(accepted.host) == (accepted.id,)


def test_the_lease_goes_from_one_operation_to_the_one_that_waits(
    admission: Admission, journal: RedisJournal, catalog: Catalog, accepted: Operation, guest: Instance
) -> None:
    holding = admission.read_holding(guest.id)
    assert holding is not None
    waiting = operation("delete-web", guest, phase=Phase.WAITING)
    noted = moved(accepted, preempted_by=waiting.id)
    admission.admit_waiting(waiting, holding, noted)
    woken = moved(waiting, phase=Phase.RUNNING, token=8)

    journal.commit(
        Change(before=noted, after=moved(noted, phase=Phase.CANCELLED), lease=LeaseMove.HAND_OVER, successor=woken)
    )

    after = admission.read_holding(guest.id)
    assert after is not None
    assert after.lease == Lease(operation_id=waiting.id, token=8)
    assert catalog.read_operation(waiting.id) == woken
    journal.commit(Change(before=woken, after=begun(woken), lease=LeaseMove.RENEW))


def test_nothing_is_handed_to_an_operation_that_moved(
    client: redis.Redis, admission: Admission, journal: RedisJournal, accepted: Operation, guest: Instance
) -> None:
    holding = admission.read_holding(guest.id)
    assert holding is not None
    waiting = operation("delete-web", guest, phase=Phase.WAITING)
    noted = moved(accepted, preempted_by=waiting.id)
    admission.admit_waiting(waiting, holding, noted)
    journal.commit(Change(before=waiting, after=moved(waiting, relaunches=1), lease=LeaseMove.WATCH))
    before = read_everything(client)
    woken = moved(waiting, phase=Phase.RUNNING, token=8)

    with pytest.raises(StoreConflict):
        journal.commit(
            Change(before=noted, after=moved(noted, phase=Phase.CANCELLED), lease=LeaseMove.HAND_OVER, successor=woken)
        )

    assert read_everything(client) == before


def test_an_operation_that_moves_takes_its_claim_and_its_indexes_along(
    client: redis.Redis,
    keys: Keys,
    journal: RedisJournal,
    catalog: Catalog,
    hosts: Hosts,
    accepted: Operation,
    guest: Instance,
) -> None:
    there = replace(guest, host=HostName("h2"))

    journal.commit(Change(before=accepted, after=moved(accepted, host=there.host), instance=there, claim=claim(there)))

    assert (catalog.list_unsettled_on(HostName("h1")), catalog.list_unsettled_on(there.host)) == ((), (accepted.id,))
    assert (catalog.list_instances(HostName("h1")), catalog.list_instances(there.host)) == ((), (there,))
    assert hosts.list_claims(HostName("h1")) == ()
    assert hosts.list_claims(there.host) == ((guest.id, Resources(vcpus=1, memory_mib=64, disk_gib=1)),)
    assert client.hget(keys.used("h1"), "memory_mib") == "0"


def test_images_are_registered_with_the_end_that_made_them(
    journal: RedisJournal, catalog: Catalog, accepted: Operation
) -> None:
    journal.commit(
        Change(
            before=accepted,
            after=moved(accepted, phase=Phase.SUCCEEDED),
            lease=LeaseMove.RELEASE,
            images=(image("gold"),),
        )
    )

    assert catalog.read_image("gold") == image("gold")
    assert catalog.list_images() == (image("gold"),)


def test_a_reserved_name_is_released_only_by_its_operation(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation
) -> None:
    client.hset(keys.images, mapping={"mine": accepted.id, "theirs": "another"})

    first = moved(accepted)
    journal.commit(Change(before=accepted, after=first, released_image_name="mine"))
    journal.commit(Change(before=first, after=moved(first), released_image_name="theirs"))

    assert client.hgetall(keys.images) == {"theirs": "another"}


def test_progress_is_the_last_note_and_goes_by_itself(
    client: redis.Redis, keys: Keys, journal: RedisJournal, catalog: Catalog, accepted: Operation
) -> None:
    journal.note_progress(accepted, "fetch_image", 1, None)
    journal.note_progress(accepted, "fetch_image", 5, 10)

    assert catalog.read_progress(accepted.id) == ("fetch_image", 5, 10)
    assert 0 < client.ttl(keys.progress(accepted.id)) <= 60
    assert catalog.read_progress(OperationId("another")) is None


def test_who_notes_progress_is_told_of_a_wish_that_it_stops(journal: RedisJournal, accepted: Operation) -> None:
    assert not journal.note_progress(accepted, "fetch_image", 1, None)

    journal.commit(Change(before=accepted, after=moved(accepted), lease=LeaseMove.WATCH))
    assert not journal.note_progress(accepted, "fetch_image", 2, None)

    wished = replace(moved(moved(accepted)), cancel_requested=True)
    journal.commit(Change(before=moved(accepted), after=wished, lease=LeaseMove.WATCH))
    assert journal.note_progress(accepted, "fetch_image", 3, None)
    assert not journal.note_progress(replace(accepted, id=OperationId("another")), "fetch_image", 3, None)


def test_what_the_caller_sees_is_written_in_the_same_transaction(client: redis.Redis, keys: Keys) -> None:
    def outcome_for(op: Operation, _: Instance | None) -> Outcome | None:
        return Outcome(key=f"result:{op.id}", payload=op.phase.value, keep_s=60) if op.phase.settled else None

    writer = Writer(keys=keys, operation_keep_s=3600, events_kept=100, outcome_for=outcome_for)
    admission, journal, guest = Admission(client, writer), RedisJournal(client, writer), instance(ports=())
    build = operation("build-web", guest)
    admission.admit_build(build, guest, claim(guest))
    assert client.get("result:build-web") is None
    pubsub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    pubsub.subscribe("result:build-web")
    pubsub.get_message(timeout=1.0)

    journal.commit(Change(before=build, after=moved(build, phase=Phase.SUCCEEDED), lease=LeaseMove.RELEASE))

    assert client.get("result:build-web") == "succeeded"
    assert 0 < client.ttl("result:build-web") <= 60
    told = pubsub.get_message(timeout=1.0)
    assert told is not None
    assert told["data"] == "succeeded"
    pubsub.close()


@pytest.mark.parametrize("doc", ["", "{", "[]", '{"id": 5}', '{"instance_id":"x"}'])
def test_a_record_that_does_not_parse_is_named(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation, doc: str
) -> None:
    client.hset(keys.operation(accepted.id), "doc", doc or "null")

    with pytest.raises(UnreadableRecord, match="operation build-web does not parse"):
        journal.load(accepted.id)


def test_an_instance_that_does_not_parse_is_named(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation
) -> None:
    client.set(keys.instance(accepted.instance_id), "{")

    with pytest.raises(UnreadableRecord, match="instance of operation build-web does not parse"):
        journal.load(accepted.id)


def test_what_a_newer_version_wrote_is_refused_in_words(
    admission: Admission, journal: RedisJournal, guest: Instance
) -> None:
    admission.admit_build(operation("build-web", guest, schema=2), guest, claim(guest))

    with pytest.raises(UnreadableRecord) as refusal:
        journal.load(OperationId("build-web"))

    assert str(refusal.value) == (
        "operation build-web was written by a newer Taskvisor (schema 2; this one reads up to 1); upgrade this node"
    )


def test_fields_that_a_newer_version_added_to_a_known_schema_are_passed_over(
    client: redis.Redis, keys: Keys, journal: RedisJournal, accepted: Operation
) -> None:
    doc = str(client.hget(keys.operation(accepted.id), "doc"))
    client.hset(keys.operation(accepted.id), "doc", doc[:-1] + ',"colour":"blue"}')

    loaded = journal.load(accepted.id)

    assert loaded is not None
    assert loaded.operation == accepted
