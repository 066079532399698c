"""A machine becomes the host that its settings say, stays it, and is refused in words when it is not."""

import json
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from taskvisor.compute.identity import ADOPTABLE, Clash
from taskvisor.model.errors import CannotAsk, Refused, StoreConflict, UnreadableRecord
from taskvisor.model.identity import GuestHere, HostIdentity, HostLook, IdentityRecord, KnownHost, Role, Seat
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.state.closing import Closing
from taskvisor.state.codec import encode
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.identities import Identities
from taskvisor.state.keys import Keys
from tests.support.records import instance, inventory
from tests.support.spies import WorkerDied
from virt.durable import write_durably
from workers import identity_file
from workers.identity import IdentityCheck
from workers.identity_file import path_in, read_identity
from workers.locks import lock_path, open_lock

KEYS = Keys("taskvisor:")
KVM1, KVM2 = HostName("kvm1"), HostName("kvm2")
MACHINE, OTHER_MACHINE = "a" * 32, "b" * 32
DOWN_S = 0.6


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    opened = open_redis(redis_url, timeout_s=5)
    yield opened
    opened.close()


def check(
    client: redis.Redis,
    state_dir: Path,
    *,
    host: HostName = KVM1,
    machine: str | None = MACHINE,
    boot: str = "boot-1",
    look: HostLook | None = None,
    overruled: Collection[Clash] = (),
    roles: Collection[Role] = (Role.STEPS,),
) -> IdentityCheck:
    seen = look or HostLook(hypervisor_id="board-1", guests=())
    return IdentityCheck(
        host=host,
        state_dir=state_dir,
        seat=Seat(machine_id=machine, boot_id=boot, state_dir=str(state_dir)),
        store=Identities(client, KEYS),
        read_look=lambda: seen,
        beats_limit_s=DOWN_S,
        roles=roles,
        overruled=overruled,
    )


def look_at(*guests: GuestHere) -> HostLook:
    return HostLook(hypervisor_id="board-1", guests=guests)


def guest(name: str) -> GuestHere:
    return GuestHere(id=instance(name, f"build-{name}").id, name=name)


def ensure_recorded(client: redis.Redis, name: str, host: HostName) -> InstanceId:
    record = instance(name, f"build-{name}", host=host)
    client.set(KEYS.instance(record.id), encode(record))
    client.sadd(KEYS.instances_on(host), record.id)
    return record.id


def recorded(client: redis.Redis, host: HostName = KVM1) -> IdentityRecord:
    known = Identities(client, KEYS).read(host).record
    assert known is not None
    return known


def refusal_of(refused: IdentityCheck) -> str:
    with pytest.raises(Refused) as refusal:
        refused.ensure_identity()
    return str(refusal.value)


def test_a_first_start_writes_file_and_record(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path).ensure_identity()

    assert read_identity(tmp_path) == made
    assert (made.host, made.machine_id, made.hypervisor_id, made.registered) == (KVM1, MACHINE, "board-1", True)
    assert recorded(client).id == made.id
    assert json.loads(path_in(tmp_path).read_text())["schema"] == 1


def test_every_further_start_of_a_boot_asks_nobody_and_changes_nothing(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path).ensure_identity()
    before = path_in(tmp_path).stat().st_mtime_ns

    def silent() -> HostLook:
        raise CannotAsk("libvirtd is away")

    assert replace(check(client, tmp_path), read_look=silent).ensure_identity() == made
    assert path_in(tmp_path).stat().st_mtime_ns == before


def test_another_boot_of_the_same_machine_is_the_same_host(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path).ensure_identity()

    assert check(client, tmp_path, boot="boot-2").ensure_identity().id == made.id
    assert recorded(client).seat.boot_id == "boot-2"


def test_a_hypervisor_that_is_silent_is_no_match(client: redis.Redis, tmp_path: Path) -> None:
    def silent() -> HostLook:
        raise CannotAsk("libvirtd is away")

    assert "libvirtd is away" in refusal_of(replace(check(client, tmp_path), read_look=silent))
    assert read_identity(tmp_path) is None
    assert not client.exists(KEYS.host(KVM1))


def test_a_redis_that_is_silent_is_no_match(tmp_path: Path) -> None:
    with pytest.raises(CannotAsk):
        check(open_redis(f"unix://{tmp_path}/none", timeout_s=1), tmp_path).ensure_identity()
    assert read_identity(tmp_path) is None


def test_a_renamed_host_is_told_its_name(client: redis.Redis, tmp_path: Path) -> None:
    check(client, tmp_path).ensure_identity()
    ensure_recorded(client, "web", KVM1)

    said = refusal_of(check(client, tmp_path, host=KVM2))

    assert "this machine is host kvm1 by" in said
    assert "TASKVISOR_HOST=kvm1" in said
    assert "1 instance is on record under the old name" in said
    assert "--adopt-identity" not in said
    refusal_of(check(client, tmp_path, host=KVM2, overruled=ADOPTABLE))
    assert not client.exists(KEYS.host(KVM2))


def test_a_host_without_instances_may_be_renamed_on_purpose(client: redis.Redis, tmp_path: Path) -> None:
    former = check(client, tmp_path).ensure_identity()

    assert "--adopt-identity" in refusal_of(check(client, tmp_path, host=KVM2))
    renamed = check(client, tmp_path, host=KVM2, overruled=ADOPTABLE).ensure_identity()

    assert (renamed.host, recorded(client, KVM2).id) == (KVM2, renamed.id)
    assert renamed.id != former.id
    assert check(client, tmp_path, host=KVM2).ensure_identity() == renamed


def test_a_second_machine_under_a_name_is_refused_until_it_is_adopted(client: redis.Redis, tmp_path: Path) -> None:
    check(client, tmp_path / "one").ensure_identity()
    second = replace(
        check(client, tmp_path / "two"),
        seat=Seat(machine_id=OTHER_MACHINE, boot_id="boot-9", state_dir=str(tmp_path / "two")),
    )

    said = refusal_of(second)

    assert "the name kvm1 belongs to another machine, with machine-id " + MACHINE in said
    assert read_identity(tmp_path / "two") is None
    adopted = replace(second, overruled=ADOPTABLE).ensure_identity()
    assert recorded(client).id == adopted.id
    assert "belongs to another machine" in refusal_of(check(client, tmp_path / "one"))


class Heart:
    """A node on another machine, heard of each time that somebody looks."""

    def __init__(self, store: Identities, hosts: Hosts, beats: int) -> None:
        self._store, self._hosts, self._left = store, hosts, beats

    def read(self, host: HostName) -> KnownHost:
        if self._left > 0:
            self._left -= 1
            self._hosts.note_alive(host, "theirs", keep_s=DOWN_S)
        return self._store.read(host)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@pytest.mark.parametrize("overruled", [(), ADOPTABLE])
def test_a_machine_that_lives_keeps_its_name_whatever_is_overruled(
    client: redis.Redis, tmp_path: Path, overruled: Collection[Clash]
) -> None:
    check(client, tmp_path).ensure_identity()
    copied = check(client, tmp_path, boot="boot-of-the-clone", overruled=overruled)
    heart = Heart(copied.store, Hosts(client, KEYS), beats=100)

    said = refusal_of(replace(copied, store=heart))  # type: ignore[arg-type]

    assert "a node of host kvm1 lives in another boot (boot-1) of a machine with this machine-id" in said
    assert recorded(client).seat.boot_id == "boot-1"


def test_the_last_heartbeat_of_a_dead_node_is_waited_for(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path).ensure_identity()
    Hosts(client, KEYS).note_alive(KVM1, "dead", keep_s=DOWN_S)
    began = time.monotonic()

    assert check(client, tmp_path, boot="boot-2").ensure_identity().id == made.id
    assert not client.exists(KEYS.alive(KVM1))
    assert time.monotonic() - began > DOWN_S / 2


def test_the_other_node_of_this_host_is_nobody_else(client: redis.Redis, tmp_path: Path) -> None:
    """Without a record, as in an upgrade: the lock in the state directory says where it runs."""
    Hosts(client, KEYS).note_alive(KVM1, "our-other-node", keep_s=3600)
    descriptor = open_lock(lock_path(tmp_path, KVM1, Role.STEPS))
    assert descriptor is not None

    assert check(client, tmp_path, roles=(Role.CONTROL,)).ensure_identity().host == KVM1


def test_a_heartbeat_that_outlasts_ours_is_somebody_elses(client: redis.Redis, tmp_path: Path) -> None:
    Hosts(client, KEYS).note_alive(KVM1, "theirs", keep_s=3600)

    assert "a node of host kvm1 lives somewhere else" in refusal_of(check(client, tmp_path))


def test_guests_that_the_store_knows_nothing_of_keep_a_new_identity_out(client: redis.Redis, tmp_path: Path) -> None:
    check(client, tmp_path).ensure_identity()
    client.flushdb()
    guests = look_at(*map(guest, ("web", "db", "mail", "four", "five")))

    said = refusal_of(check(client, tmp_path, look=guests))

    assert "guests of ours are here that this Redis knows nothing of: web (" in said
    assert "and 2 more" in said
    assert "taskvisor rebuild --from-hosts" in said
    assert client.keys("*") == []
    adopted = check(client, tmp_path, look=guests, overruled=ADOPTABLE).ensure_identity()
    assert recorded(client).id == adopted.id
    check(client, tmp_path, look=guests).ensure_identity()


def test_a_store_that_waits_to_be_told_of_guests_lets_their_hosts_start(client: redis.Redis, tmp_path: Path) -> None:
    Closing(client, KEYS).close("it is being rebuilt", 1.0)
    check(client, tmp_path, look=look_at(guest("web"))).ensure_identity()
    assert Identities(client, KEYS).read(KVM1).record is not None

    Closing(client, KEYS).open(2.0)
    with pytest.raises(Refused, match="this Redis knows nothing of"):
        check(client, tmp_path / "other", host=KVM2, look=look_at(guest("db"))).ensure_identity()


def test_a_flushed_redis_without_guests_is_only_new(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path).ensure_identity()
    client.flushdb()

    assert check(client, tmp_path).ensure_identity().id == made.id


def test_guests_of_another_host_are_never_taken_over(client: redis.Redis, tmp_path: Path) -> None:
    ensure_recorded(client, "web", KVM2)

    for overruled in ((), ADOPTABLE):
        said = refusal_of(check(client, tmp_path, look=look_at(guest("web")), overruled=overruled))
        assert "recorded on another host: web (" in said
        assert "recorded on kvm2" in said


def test_strays_do_not_stop_a_host_that_is_known(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path).ensure_identity()

    assert check(client, tmp_path, boot="boot-2", look=look_at(guest("stray"))).ensure_identity().id == made.id


def test_an_upgrade_from_a_version_without_identities_makes_no_fuss(client: redis.Redis, tmp_path: Path) -> None:
    Hosts(client, KEYS).write_inventory(KVM1, inventory())
    ensure_recorded(client, "web", KVM1)

    made = check(client, tmp_path, look=look_at(guest("web"), guest("stray"))).ensure_identity()

    assert recorded(client).id == made.id


def test_another_machine_or_board_under_the_file_must_be_adopted(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path).ensure_identity()
    moved = {"machine": OTHER_MACHINE, "boot": "boot-2", "look": HostLook(hypervisor_id="board-2", guests=())}

    said = refusal_of(check(client, tmp_path, **moved))  # type: ignore[arg-type]

    assert f"was made on another machine (machine-id {MACHINE}, here {OTHER_MACHINE})" in said
    assert "libvirt says that its host is board-2" in said
    adopted = check(client, tmp_path, **moved, overruled=ADOPTABLE).ensure_identity()  # type: ignore[arg-type]
    assert adopted == replace(made, machine_id=OTHER_MACHINE, hypervisor_id="board-2")
    check(client, tmp_path, **moved).ensure_identity()  # type: ignore[arg-type]


def test_what_a_container_does_not_know_of_itself_is_not_compared(client: redis.Redis, tmp_path: Path) -> None:
    made = check(client, tmp_path, machine=None, look=HostLook(hypervisor_id=None, guests=())).ensure_identity()

    assert check(client, tmp_path, machine=None, boot="boot-2").ensure_identity().id == made.id


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff", b'{"schema": "x"}'])
def test_a_damaged_file_is_refused_and_made_anew_on_purpose(
    client: redis.Redis, tmp_path: Path, content: bytes
) -> None:
    path_in(tmp_path).write_bytes(content)

    assert "is no identity of a host" in refusal_of(check(client, tmp_path))
    assert path_in(tmp_path).read_bytes() == content
    made = check(client, tmp_path, overruled=ADOPTABLE).ensure_identity()
    assert read_identity(tmp_path) == made


def test_a_file_of_a_newer_version_is_left_alone(client: redis.Redis, tmp_path: Path) -> None:
    path_in(tmp_path).write_text('{"schema": 2, "who": "knows"}')

    for overruled in ((), ADOPTABLE):
        with pytest.raises(UnreadableRecord, match="upgrade this node"):
            check(client, tmp_path, overruled=overruled).ensure_identity()
    assert path_in(tmp_path).read_text() == '{"schema": 2, "who": "knows"}'


def test_both_nodes_that_start_at_once_are_one_host(client: redis.Redis, tmp_path: Path) -> None:
    """The other one makes the file, or registers, between two steps of ours."""
    first = check(client, tmp_path)
    others: list[HostIdentity] = []

    class Overtaken(Identities):
        def register(self, host: HostName, record: IdentityRecord, seen: KnownHost) -> None:
            if not others:
                others.append(first.ensure_identity())
            super().register(host, record, seen)

    ours = replace(check(client, tmp_path), store=Overtaken(client, KEYS)).ensure_identity()

    assert ours == others[0] == read_identity(tmp_path)
    assert recorded(client).id == ours.id


@pytest.mark.parametrize("at", ["write-1", "written-1", "register", "registered", "write-2", "written-2"])
def test_a_death_anywhere_in_a_first_start_is_made_good_by_the_next(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    Hosts(client, KEYS).write_inventory(KVM1, inventory())  # an upgrade, with a stray: the pickiest start of all
    here = look_at(guest("stray"))
    writes, real = [0], write_durably

    def die_if(moment: str) -> None:
        if moment == at:
            raise WorkerDied

    def write(path: Path, content: bytes) -> None:
        writes[0] += 1
        die_if(f"write-{writes[0]}")
        real(path, content)
        die_if(f"written-{writes[0]}")

    class Dying(Identities):
        def register(self, host: HostName, record: IdentityRecord, seen: KnownHost) -> None:
            die_if("register")
            super().register(host, record, seen)
            die_if("registered")

    with monkeypatch.context() as patched:
        patched.setattr(identity_file, "write_durably", write)
        with pytest.raises(WorkerDied):
            replace(check(client, tmp_path, look=here), store=Dying(client, KEYS)).ensure_identity()
    kept = read_identity(tmp_path)

    made = check(client, tmp_path, look=here).ensure_identity()

    assert kept is None or kept.id == made.id
    assert read_identity(tmp_path) == made
    assert (made.registered, recorded(client).id) == (True, made.id)


def test_a_store_that_moves_at_every_look_is_given_up(client: redis.Redis, tmp_path: Path) -> None:
    class Restless(Identities):
        def register(self, host: HostName, record: IdentityRecord, seen: KnownHost) -> None:
            raise StoreConflict("moved")

    restless = replace(check(client, tmp_path), store=Restless(client, KEYS))

    assert "was changed 20 times" in refusal_of(restless)
