"""Claims never come to more than there is, however many ask at once; and what was claimed is free again exactly once."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import DoesNotFit, StoreConflict
from taskvisor.model.ids import HostName, OperationId, instance_id_for
from taskvisor.model.records import Claim, Resources
from taskvisor.model.repair import Change, DropClaim, PutClaim, RecordRepair, SumClaims
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from taskvisor.state.repairs import Repairs
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer

H1, H2 = HostName("h1"), HostName("h2")
LIMITS = Resources(vcpus=1000, memory_mib=1_000_000, disk_gib=100_000, others={"pcpus": 4, "seats": 130})
KEYS = Keys("tv:")
CLAIMS_PER_PROCESS, PROCESSES, THREADS = 250, 4, 4


def claim_of(name: str, *things: str, **others: int) -> Claim:
    resources = Resources(vcpus=1, memory_mib=64, disk_gib=1, others=others)
    instance_id = instance_id_for(OperationId(name))
    return Claim(host=H1, instance_id=instance_id, resources=resources, limits=LIMITS, things=things)


def make(client: redis.Redis, writer: Writer, wanted: Claim) -> None:
    tx = Transaction()
    writer.claim(tx, wanted)
    tx.run(client, "claim")


def free(client: redis.Redis, writer: Writer, wanted: Claim) -> None:
    tx = Transaction()
    writer.unclaim(tx, wanted.host, wanted.instance_id)
    tx.run(client, "free")


def test_a_thing_is_one_instances_alone_and_free_when_that_is_gone(client: redis.Redis, writer: Writer) -> None:
    hosts = Hosts(client, KEYS)
    first, second = claim_of("a", "cpu:1", "cpu:2", pcpus=2), claim_of("b", "cpu:2", "cpu:3", pcpus=2)
    make(client, writer, first)
    with pytest.raises(DoesNotFit, match=f"host h1: cpu:2 is instance {first.instance_id}'s"):
        make(client, writer, second)
    assert hosts.list_held([H1, H2]) == ({"cpu:1": first.instance_id, "cpu:2": first.instance_id}, {})

    free(client, writer, first)
    free(client, writer, first)
    make(client, writer, second)
    free(client, writer, first)

    assert hosts.list_held([H1]) == ({"cpu:2": second.instance_id, "cpu:3": second.instance_id},)
    assert client.hgetall(KEYS.used(H1)) == {"vcpus": "1", "memory_mib": "64", "disk_gib": "1", "pcpus": "2"}


def test_a_claim_of_none_of_something_is_freed_like_any_other(client: redis.Redis, writer: Writer) -> None:
    diskless = replace(claim_of("a"), resources=Resources(vcpus=1, memory_mib=64, disk_gib=0))
    make(client, writer, diskless)
    free(client, writer, diskless)
    assert client.hgetall(KEYS.used(H1)) == {"vcpus": "0", "memory_mib": "0", "disk_gib": "0"}


def test_what_a_host_has_never_heard_of_does_not_fit(client: redis.Redis, writer: Writer) -> None:
    with pytest.raises(DoesNotFit, match="host h1: fpga 1 asked, 0 of 0 free"):
        make(client, writer, claim_of("a", fpga=1))
    assert client.keys("tv:*") == []


def test_a_claim_that_moves_takes_its_things_along(client: redis.Redis, writer: Writer) -> None:
    former = claim_of("a", "cpu:1", pcpus=1)
    make(client, writer, former)
    tx = Transaction()
    writer.move_claim(tx, H1, replace(former, host=H2, things=("cpu:7",)))
    tx.run(client, "move")
    assert Hosts(client, KEYS).list_held([H1, H2]) == ({}, {"cpu:7": former.instance_id})


def ask_in_a_process(redis_url: str, number: int, made: "multiprocessing.Queue[tuple[int, int]]") -> None:
    """So many claims, each of a seat; every fifth of a CPU too, of which there are four."""
    client = open_redis(redis_url, timeout_s=60.0)
    writer = Writer(keys=KEYS, operation_keep_s=3600, events_kept=1000, outcome_for=lambda *_: None)

    def ask(index: int) -> tuple[int, int]:
        wants_cpu = index % 5 == 0
        things = (f"cpu:{index // 5 % 4}",) if wants_cpu else ()
        amounts = {"seats": 1} | ({"pcpus": 1} if wants_cpu else {})
        try:
            make(client, writer, claim_of(f"{number}-{index}", *things, **amounts))
        except DoesNotFit:
            return 0, 0
        return 1, len(things)

    with ThreadPoolExecutor(THREADS) as threads:
        done = list(threads.map(ask, range(CLAIMS_PER_PROCESS)))
    made.put((sum(seat for seat, _ in done), sum(cpu for _, cpu in done)))
    client.close()


def test_a_thousand_claims_at_once_never_come_to_one_too_many(redis_url: str, client: redis.Redis) -> None:
    context = multiprocessing.get_context("spawn")
    made: multiprocessing.Queue[tuple[int, int]] = context.Queue()
    processes = [
        context.Process(target=ask_in_a_process, args=(redis_url, number, made)) for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    counted = [made.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0

    seats, cpus = sum(seat for seat, _ in counted), sum(cpu for _, cpu in counted)
    used, held = client.hgetall(KEYS.used(H1)), client.hgetall(KEYS.held(H1))
    assert (seats, cpus) == (130, 4)
    assert (used["seats"], used["pcpus"], used["vcpus"]) == ("130", "4", "130")
    assert sorted(held) == ["cpu:0", "cpu:1", "cpu:2", "cpu:3"]
    assert len(set(held.values())) == 4
    assert client.hlen(KEYS.claims(H1)) == 130


def repair(*changes: Change) -> RecordRepair:
    return RecordRepair(done="it was mended", conditions=(), changes=changes)


def test_a_claim_that_is_given_back_gives_back_what_was_held_for_it_and_twice_is_once(
    client: redis.Redis, writer: Writer
) -> None:
    left = claim_of("ghost", "cpu:1", pcpus=1)
    make(client, writer, left)
    make(client, writer, claim_of("a", "cpu:2", pcpus=1))

    for _ in range(2):
        Repairs(client, writer).carry_out(repair(DropClaim(host=H1, instance_id=left.instance_id)))

    assert list(client.hgetall(KEYS.held(H1))) == ["cpu:2"]
    assert client.hgetall(KEYS.used(H1))["pcpus"] == "1"


def test_the_claim_of_a_guest_that_is_there_is_made_beyond_what_there_is_but_takes_nobodys_things(
    client: redis.Redis, writer: Writer
) -> None:
    there, other = claim_of("a", "cpu:1", pcpus=1), claim_of("b", "cpu:1", pcpus=1)
    beyond = replace(there, limits=Resources())
    Repairs(client, writer).carry_out(repair(PutClaim(claim=beyond)))
    assert client.hgetall(KEYS.held(H1)) == {"cpu:1": there.instance_id}

    with pytest.raises(StoreConflict):
        Repairs(client, writer).carry_out(repair(PutClaim(claim=other)))
    assert list(client.hgetall(KEYS.claims(H1))) == [there.instance_id]


def test_what_is_used_is_set_to_the_sum_of_the_claims(client: redis.Redis, writer: Writer) -> None:
    make(client, writer, claim_of("a", pcpus=1))
    make(client, writer, claim_of("b"))
    client.hset(KEYS.used(H1), mapping={"vcpus": 9, "seats": 3})
    client.hdel(KEYS.used(H1), "pcpus")

    Repairs(client, writer).carry_out(repair(SumClaims(host=H1)))

    assert client.hgetall(KEYS.used(H1)) == {"vcpus": "2", "memory_mib": "128", "disk_gib": "2", "pcpus": "1"}
