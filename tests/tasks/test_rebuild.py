"""A store that was flushed is written anew from what hosts have: three simulated hosts, guests of all kinds."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskvisor.compute.rebuild import LeftOut
from taskvisor.model.errors import StoreConflict
from taskvisor.model.ids import HostName
from taskvisor.model.rebuilding import ConflictKind
from taskvisor.model.states import Phase, PowerState, VmState
from tests.support.audits import audit
from tests.support.fleet import KEYS, Fleet
from tests.support.network_desk import NetworkDesk, open_network_desk
from tests.support.rebuilds import decided, flushed, lasting_keys, rebuilding_of, rebuilt, ticked

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFake someone"
WEB_RULES = [
    {"direction": "ingress", "protocol": "tcp", "first_port": 80, "last_port": 80, "remote": "0.0.0.0/0"},
    {"direction": "ingress", "remote_group": "web"},
]


@pytest.fixture
def desk(three_hosts: Fleet, redis_url: str) -> Iterator[NetworkDesk]:
    with open_network_desk(redis_url, three_hosts) as opened:
        yield opened


@pytest.fixture
def full(three_hosts: Fleet, desk: NetworkDesk) -> Fleet:
    """Three hosts with guests of all kinds, at rest, a minute after the last of them was touched."""
    fleet = three_hosts
    desk.ask("network.create", name="lan", kind="vxlan", cidr="10.9.0.0/24", segment=77, cidr6="fd00:9::/64")
    desk.ask("network.create", name="six", kind="nat", cidr="10.8.0.0/24", cidr6="fd00:8::/64", ipv6_mode="dhcpv6")
    desk.ask("security_group.create", name="web", rules=WEB_RULES)
    desk.ask("floating.create", address="203.0.113.7")
    for number in range(20):
        fleet.build(f"plain{number}")
    for number in range(6):
        fleet.build(f"lan{number}", networks=["lan"])
    fleet.build("grouped", networks=[{"network": "default", "security_groups": ["web"]}])
    fleet.build(
        "nics",
        networks=[
            "default",
            {"network": "lan", "allowed_pairs": [{"address": "10.9.0.250"}]},
            {"network": "six", "qos": {"inbound": {"average_kib_s": 1000}}, "queues": 2},
        ],
    )
    fleet.build("volumes", volumes=["rbd://volumes/a", {"source": "nfs://filer/e/b.raw", "total_iops": 100}])
    fleet.build("placed", flavor={"vcpus": 1, "memory_mib": 64, "disk_gib": 1, "extra_specs": {"hw:numa_nodes": "1"}})
    fleet.build("later")
    fleet.ask("instance.attach_volume", "attach-volume", instance="later", volume="rbd://volumes/c")
    fleet.ask("instance.attach_interface", "attach-nic", instance="later", interface="lan")
    fleet.build("keyed", ssh_keys=[KEY], user_data="#cloud-config\n", metadata={"role": "db"})
    fleet.build("off")
    fleet.ask("instance.stop", "stop", instance="off")
    fleet.build("snapped")
    fleet.ask("instance.snapshot", "snap", instance="snapped", image="gold")
    desk.ask("floating.bind", floating="203.0.113.7", instance="plain0")
    ticked(fleet)
    port = fleet.instance("plain1").ports[0]
    desk.ask("port.update", instance="plain1", port=port.id, security_groups=["web"])
    ticked(fleet)
    return fleet


@pytest.fixture
def few(three_hosts: Fleet, desk: NetworkDesk) -> Fleet:
    """Three hosts with a guest each, on a network that spans them."""
    desk.ask("network.create", name="lan", kind="vxlan", cidr="10.9.0.0/24", segment=77)
    for number, flavor in enumerate(({"memory_mib": 3900}, {"memory_mib": 1900}, {"memory_mib": 900})):
        size = {"vcpus": 1, "disk_gib": 1, **flavor}
        three_hosts.build(f"plain{number}", networks=["lan", "default"], flavor=size)
    ticked(three_hosts)
    assert {one.host for one in three_hosts.store.catalog.list_instances()} == {"h1", "h2", "h3"}
    return three_hosts


def test_what_is_written_anew_is_what_was_there_but_for_what_hosts_do_not_know(full: Fleet) -> None:
    before, guests = lasting_keys(full), {one.name: one for one in full.store.catalog.list_instances()}
    flushed(full)

    written = rebuilt(full)

    after = lasting_keys(full)
    assert {name for name in before if before[name] != after.get(name)} == {f"instance:{guests['keyed'].id}"}
    assert set(before) == set(after)
    assert len(written.instances) == len(guests) == 34
    keyed = full.instance("keyed")
    assert (keyed.ssh_keys, keyed.user_data, keyed.seed_known, keyed.metadata) == ((), None, False, {"role": "db"})
    assert (written.notes, written.silent) == ((), {})
    assert audit(full) == ()

    again = decided(full)
    assert (again.writes_nothing, again.conflicts, again.silent) == (True, (), {})
    rebuilding_of(full).write(again, full.clock.now())
    assert lasting_keys(full) == after


def test_guests_that_were_read_back_are_used_as_before_and_nothing_on_their_hosts_was_touched(full: Fleet) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_ino)
            for host in full.hosts.values()
            for path in host.root.rglob("*")
            if path.is_file() and "lock" not in str(path)
        }

    before = files()
    flushed(full)
    rebuilt(full)
    assert files() == before

    for name in ("later", "nics", "volumes", "keyed", "grouped"):
        assert full.ask("instance.stop", f"stop-{name}", instance=name).phase is Phase.SUCCEEDED
        assert full.ask("instance.start", f"start-{name}", instance=name).phase is Phase.SUCCEEDED
    for instance in full.store.catalog.list_instances():
        assert full.ask("instance.delete", f"del-{instance.name}", instance=instance.name).phase is Phase.SUCCEEDED
    kinds = ("instance", "names", "claims", "addresses", "ports", "macs", "members", "nics", "volume:")
    assert [key for kind in kinds for key in full.client.keys(f"{KEYS.prefix}{kind}*")] == []


def test_new_guests_get_other_addresses_than_those_that_were_read_back(few: Fleet) -> None:
    flushed(few)
    rebuilt(few)

    few.build("new", "build-new")

    taken = [
        port.address for one in few.store.catalog.list_instances() for port in one.ports if port.network == "default"
    ]
    assert len(taken) == len(set(taken))


def test_a_domain_without_a_copy_beside_it_is_read_back_by_its_metadata(full: Fleet) -> None:
    for host in full.hosts.values():
        for copy in host.root.glob("instances/*/record.json"):
            copy.unlink()
    guests = {one.name: one for one in full.store.catalog.list_instances()}
    flushed(full)

    rebuilt(full)

    lost = {"seed_known", "ssh_keys", "user_data", "launched_at", "image_min_memory_mib"}
    for name, former in guests.items():
        found = full.instance(name)
        differing = {field for field in former.__dataclass_fields__ if getattr(found, field) != getattr(former, field)}
        # Whoever changes a port's groups tells its host, not its domain.
        assert differing <= lost | ({"ports"} if name == "plain1" else set()), name
    assert audit(full) == ()


def test_a_host_that_is_silent_is_known_by_the_others_and_its_addresses_are_kept_for_it(few: Fleet) -> None:
    before = lasting_keys(few)
    flushed(few)
    there = ("h1", "h2")
    assert list(decided(few, there).silent) == ["h3"]

    left_out = LeftOut(hosts=frozenset({HostName("h3")}))
    written = rebuilt(few, there, left_out)
    reserved = {address for one in written.reserved for address in one.addresses}
    assert reserved
    assert (
        before["addresses:" + few.store.catalog.find_network("lan").id]
        == lasting_keys(few)["addresses:" + few.store.catalog.find_network("lan").id]
    )

    rebuilt(few)  # the host is back: --merge
    assert lasting_keys(few) == before
    assert audit(few) == ()


def test_two_hosts_that_claim_one_instance_are_a_conflict_and_nothing_is_written(few: Fleet) -> None:
    instance = few.instance("plain0")
    one, other = few.hosts[instance.host], next(h for h in few.hosts.values() if h.name != instance.host)
    for part in ("domains", "instances"):
        for path in (one.root / part).glob(f"{instance.id}*"):
            target = other.root / part / path.name
            if path.is_dir():
                target.mkdir()
                (target / "owner.json").write_bytes((path / "owner.json").read_bytes())
            else:
                target.write_bytes(path.read_bytes())
    flushed(few)

    found = decided(few)

    assert [(conflict.kind, conflict.subject) for conflict in found.conflicts] == [
        (ConflictKind.TWO_HOSTS, instance.id)
    ]
    assert instance.id not in {guest.id for guest in found.instances}
    left_out = LeftOut(subjects=frozenset({instance.id}))
    assert instance.addresses[0] in {
        address for one in rebuilt(few, None, left_out).reserved for address in one.addresses
    }


def test_metadata_that_nobody_can_read_are_a_conflict_with_the_reason(few: Fleet) -> None:
    instance = few.instance("plain0")
    host = few.hosts[instance.host]
    (host.root / "instances" / instance.id / "record.json").unlink()
    path = host.root / "domains" / f"{instance.id}.json"
    domain = json.loads(path.read_text())
    domain["xml"] = domain["xml"].replace('schema="1"', 'schema="9"')
    path.write_text(json.dumps(domain))
    flushed(few)

    (conflict,) = decided(few).conflicts

    assert (conflict.kind, conflict.subject) == (ConflictKind.UNREADABLE, instance.id)
    assert "schema 9, written by a newer version" in conflict.message


def test_who_wrote_meanwhile_is_not_overwritten(few: Fleet) -> None:
    flushed(few)
    found = decided(few)
    few.client.hset(KEYS.names, "plain0", "somebody")
    before = lasting_keys(few)

    with pytest.raises(StoreConflict, match="plain0 came to be there meanwhile, so nothing was written"):
        rebuilding_of(few).write(found, few.clock.now())

    assert lasting_keys(few) == before


def test_a_build_that_was_under_way_is_told_and_left_alone(three_hosts: Fleet) -> None:
    three_hosts.build("web")
    begun = three_hosts.begin_build("half")
    three_hosts.post.deliver(three_hosts.post.chains[0])
    ticked(three_hosts)
    flushed(three_hosts)

    found = rebuilt(three_hosts)

    assert [one.name for one in found.instances] == ["web"]
    assert [(note.subject, "had not ended" in note.message) for note in found.notes] == [(begun.instance_id, True)]


def test_a_guest_without_a_domain_is_read_back_from_its_copy(three_hosts: Fleet) -> None:
    three_hosts.build("web")
    ticked(three_hosts)
    web = three_hosts.instance("web")
    three_hosts.hosts[web.host].outsider.ensure_domain_gone(web.id)
    flushed(three_hosts)

    found = rebuilt(three_hosts)

    assert [one.name for one in found.instances] == ["web"]
    assert "it has no domain: hard reboot it, or delete it" in [note.message for note in found.notes]
    web = three_hosts.instance("web")
    assert (web.vm_state, web.power_state) == (VmState.ACTIVE, PowerState.NOSTATE)
    assert three_hosts.ask("instance.reboot", "reboot", instance="web", type="hard").phase is Phase.SUCCEEDED


def test_a_host_notices_that_the_store_was_flushed_and_closes_it_until_it_is_rebuilt(three_hosts: Fleet) -> None:
    three_hosts.build("web")
    ticked(three_hosts)
    assert three_hosts.store.closing.reason() is None
    flushed(three_hosts)

    ticked(three_hosts)
    reason = three_hosts.store.closing.reason()
    assert reason is not None
    assert "has 1 guests, and the store has not one instance" in reason

    rebuilt(three_hosts)
    assert three_hosts.store.closing.reason() is None
    assert three_hosts.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED
    ticked(three_hosts)
    assert three_hosts.store.closing.reason() is None


def test_a_closed_store_lets_requests_wait(desk: NetworkDesk, three_hosts: Fleet) -> None:
    three_hosts.store.closing.close("it is being rebuilt", 1.0)
    desk.take("network.create", "early", name="lan", kind="nat", cidr="10.9.0.0/24")
    assert three_hosts.store.catalog.list_networks() == ()

    three_hosts.store.closing.open(2.0)
    desk.take("network.create", "early", name="lan", kind="nat", cidr="10.9.0.0/24")
    assert [network.name for network in three_hosts.store.catalog.list_networks()] == ["lan"]
