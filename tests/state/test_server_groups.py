"""Server groups: the hard policies hold, however many are let in at once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from taskvisor.model.change import Change
from taskvisor.model.errors import DoesNotFit, Refused, StoreConflict
from taskvisor.model.ids import HostName, ServerGroupId
from taskvisor.model.records import Claim, Instance
from taskvisor.model.server_group import GroupPolicy, ServerGroup
from taskvisor.state import server_groups
from taskvisor.state.admission import Admission
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.server_group_changes import ServerGroupChanges
from taskvisor.state.server_groups import ServerGroups
from taskvisor.state.writing import Outcome, Writer
from tests.support.records import claim, instance, operation

ANSWER = Outcome(key="answer", payload="{}", keep_s=60)
H1, H2, H3 = (HostName(f"h{number}") for number in (1, 2, 3))


@pytest.fixture
def groups(client: redis.Redis, keys: Keys) -> ServerGroups:
    return ServerGroups(client, keys)


@pytest.fixture
def changes(client: redis.Redis, writer: Writer) -> ServerGroupChanges:
    return ServerGroupChanges(client, writer)


def group(policy: GroupPolicy = GroupPolicy.ANTI_AFFINITY, per_host: int = 1) -> ServerGroup:
    return ServerGroup(id=ServerGroupId("g1"), name="db", policy=policy, servers_per_host=per_host)


def member(number: int, host: HostName, of: ServerGroup) -> tuple[Instance, Claim]:
    guest = instance(f"db{number}", f"build{number}", host=host, ports=(), server_group=of.id)
    return guest, replace(claim(guest), server_group=of)


def let_in(admission: Admission, number: int, host: HostName, of: ServerGroup) -> Instance:
    guest, claimed = member(number, host, of)
    admission.admit_build(operation(f"build{number}", guest), guest, claimed)
    return guest


def test_a_group_is_found_by_name_and_id_with_its_members(
    groups: ServerGroups, changes: ServerGroupChanges, admission: Admission
) -> None:
    changes.create(group(), ANSWER)
    guest = let_in(admission, 1, H1, group())

    assert groups.look_up("db") == groups.look_up("g1") == (group(), {guest.id: H1})
    assert groups.look_up("nosuch") is None
    assert (groups.list(), groups.count()) == ((group(),), 1)
    with pytest.raises(Refused, match="server_group: 'nosuch': there is no such server group"):
        groups.find("nosuch")


def test_a_name_is_one_groups_at_a_time(changes: ServerGroupChanges) -> None:
    changes.create(group(), ANSWER)

    with pytest.raises(StoreConflict):
        changes.create(replace(group(), id=ServerGroupId("g2")), ANSWER)


@pytest.mark.parametrize(
    ("of", "there", "host", "sentence"),
    [
        (group(), [H1], H1, "host h1: it has 1 of server group db, and may have 1"),
        (group(per_host=2), [H1, H2, H1], H1, "host h1: it has 2 of server group db, and may have 2"),
        (
            group(GroupPolicy.AFFINITY),
            [H1, H1],
            H2,
            "host h2: server group db has a guest on h1, and belongs on one host",
        ),
    ],
)
def test_a_guest_that_would_break_the_policy_does_not_fit_and_nothing_of_it_is_kept(
    changes: ServerGroupChanges,
    groups: ServerGroups,
    admission: Admission,
    of: ServerGroup,
    there: list[HostName],
    host: HostName,
    sentence: str,
) -> None:
    changes.create(of, ANSWER)
    for number, where in enumerate(there):
        let_in(admission, number, where, of)
    before = groups.look_up("db")

    with pytest.raises(DoesNotFit, match=sentence):
        let_in(admission, 99, host, of)

    assert groups.look_up("db") == before


@pytest.mark.parametrize(
    ("of", "hosts"),
    [
        (group(), [H1, H2, H3]),
        (group(per_host=2), [H1, H1, H2]),
        (group(GroupPolicy.AFFINITY), [H2, H2, H2]),
        (group(GroupPolicy.SOFT_AFFINITY), [H1, H2, H1]),
        (group(GroupPolicy.SOFT_ANTI_AFFINITY), [H1, H1, H1]),
    ],
)
def test_guests_that_keep_the_policy_are_let_in(
    changes: ServerGroupChanges, groups: ServerGroups, admission: Admission, of: ServerGroup, hosts: list[HostName]
) -> None:
    changes.create(of, ANSWER)
    for number, host in enumerate(hosts):
        let_in(admission, number, host, of)

    assert sorted(groups.find("db")[1].values()) == sorted(hosts)


def test_of_many_guests_at_once_no_two_land_on_one_host(
    changes: ServerGroupChanges, groups: ServerGroups, admission: Admission
) -> None:
    changes.create(group(), ANSWER)

    def build(number: int) -> bool:
        try:
            let_in(admission, number, HostName(f"h{number % 4}"), group())
        except DoesNotFit:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(build, range(32))) == 4
    assert Counter(groups.find("db")[1].values()) == {HostName(f"h{number}"): 1 for number in range(4)}


def test_of_many_guests_at_once_that_belong_together_all_are_on_one_host(
    changes: ServerGroupChanges, groups: ServerGroups, admission: Admission
) -> None:
    of = group(GroupPolicy.AFFINITY)
    changes.create(of, ANSWER)

    def build(number: int) -> bool:
        try:
            let_in(admission, number, HostName(f"h{number % 4}"), of)
        except DoesNotFit:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(build, range(32))) == 8
    assert len(set(groups.find("db")[1].values())) == 1


@pytest.mark.parametrize("policy", list(GroupPolicy))
def test_a_guest_alone_in_its_group_moves_to_any_host(
    changes: ServerGroupChanges,
    groups: ServerGroups,
    admission: Admission,
    journal: RedisJournal,
    policy: GroupPolicy,
) -> None:
    of = group(policy)
    changes.create(of, ANSWER)
    guest, claimed = member(1, H1, of)
    before = operation("build1", guest)
    admission.admit_build(before, guest, claimed)

    after = replace(before, host=H2, revision=1)
    moved = replace(guest, host=H2)
    journal.commit(Change(before=before, after=after, instance=moved, claim=replace(claimed, host=H2)))

    assert groups.find("db")[1] == {guest.id: H2}


def test_a_guest_that_is_forgotten_is_no_member_any_more(
    changes: ServerGroupChanges, groups: ServerGroups, admission: Admission, journal: RedisJournal
) -> None:
    changes.create(group(), ANSWER)
    guest, claimed = member(1, H1, group())
    before = operation("build1", guest)
    admission.admit_build(before, guest, claimed)
    with pytest.raises(Refused, match=f"server_group: 'db' has instance {guest.id} in it"):
        changes.delete(group(), ANSWER)

    journal.commit(Change(before=before, after=replace(before, revision=1), instance=guest, forget_instance=True))

    assert groups.find("db")[1] == {}
    changes.delete(group(), ANSWER)
    assert groups.look_up("db") is None


def test_nobody_joins_a_group_that_is_gone_or_full(
    changes: ServerGroupChanges, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match="server_group: 'db' was deleted just now"):
        let_in(admission, 1, H1, group())

    changes.create(group(), ANSWER)
    monkeypatch.setattr(server_groups, "MEMBERS_LIMIT", 2)
    let_in(admission, 1, H1, group())
    let_in(admission, 2, H2, group())
    with pytest.raises(Refused, match="server_group: 'db' has 2 guests, and may have no more"):
        let_in(admission, 3, H3, group())
