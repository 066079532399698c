"""A guest that does not fit where it was placed goes to the next host, and gives up after some."""

from pathlib import Path

from taskvisor.model.errors import DoesNotFit
from taskvisor.model.ids import HostName
from taskvisor.model.states import Phase
from tests.support.fleet import SMALL, Fleet
from tests.support.images import ImageDesk
from tests.support.world import read_held, read_hosts
from tests.tasks.doors import do_during, refuse_once

H1, H2, H3 = HostName("h1"), HostName("h2"), HostName("h3")


def deliver_until_settling(fleet: Fleet) -> None:
    """Until the next message asks for the end, or the next host, of what is rolled back."""
    while fleet.post.chains[0].steps[0] != "operation.settle":
        fleet.post.deliver(fleet.post.chains[0])


def test_a_guest_that_does_not_fit_goes_to_the_next_host(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1")

    operation = three_hosts.build()

    assert (operation.phase, operation.host, operation.excluded_hosts) == (Phase.SUCCEEDED, "h2", ("h1",))
    assert ("h1", "excluded", "it said already that the guest does not fit") in [
        (row["host"], row["rule"], row["reason"]) for row in operation.placement
    ]
    assert operation.choice is not None
    assert [one.host for one in operation.choice.best] == ["h2", "h3"]
    assert [(entry.step, entry.host, entry.outcome) for entry in operation.timeline[:4]] == [
        ("prepare_disk", "h1", "done"),
        ("fetch_image", "h1", "DoesNotFit"),
        ("prepare_disk", "h1", "done"),
        ("prepare_disk", "h2", "done"),
    ]
    guest = three_hosts.instance()
    assert guest.host == "h2"
    assert read_hosts(three_hosts)["h1"] == {"domains": [], "links": (), "files": []}
    assert three_hosts.store.hosts.list_claims(H1) == ()
    assert [one for one, _ in three_hosts.store.hosts.list_claims(H2)] == [guest.id]
    assert three_hosts.store.catalog.list_instances(H2) == (guest,)


def test_it_keeps_its_name_and_address_on_the_way(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1", "h2")

    three_hosts.build()

    guest = three_hosts.instance()
    assert (guest.host, guest.addresses) == ("h3", ("10.152.0.2",))


def test_after_so_many_hosts_it_gives_up_and_leaves_nothing(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1", "h2", "h3")

    operation = three_hosts.build()

    assert (operation.phase, operation.host) == (Phase.FAILED, "h3")
    assert operation.failure is not None
    assert (operation.failure.code, operation.failure.message) == ("DoesNotFit", "host h3: no room on its disk")
    assert read_held(three_hosts) == {}
    assert all(there == {"domains": [], "links": (), "files": []} for there in read_hosts(three_hosts).values())


def test_it_gives_up_sooner_when_it_is_told_to(redis_url: str, memory_dir: Path) -> None:
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"), max_reschedules=0)
    refuse_once(fleet, "h1")

    assert (fleet.build().phase, read_held(fleet)) == (Phase.FAILED, {})
    fleet.close()


def test_when_no_other_host_fits_it_says_why_of_each(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1")

    operation = three_hosts.build("web", flavor="c1-m3000-d1")

    assert operation.phase is Phase.FAILED
    assert operation.failure is not None
    assert operation.failure.message == (
        "host h1: no room on its disk; and elsewhere: no host fits (vcpus 1, memory_mib 3000, disk_gib 1):"
        " h1: it said already that the guest does not fit, memory_mib 3000 asked, 1096 of 4096 free;"
        " h2: memory_mib 3000 asked, 2048 of 2048 free; h3: memory_mib 3000 asked, 1024 of 1024 free"
    )
    assert read_held(three_hosts) == {}


def test_a_guest_that_was_asked_for_on_one_host_goes_nowhere_else(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1")

    operation = three_hosts.build("web", host="h1")

    assert (operation.phase, operation.host) == (Phase.FAILED, "h1")
    assert operation.failure is not None
    assert "h2: only host h1 was asked for" in operation.failure.message


def test_a_guest_whose_image_lies_on_one_host_goes_nowhere_else(three_hosts: Fleet) -> None:
    three_hosts.build("first", host="h2")
    three_hosts.ask("instance.snapshot", "snap", instance="first", image="gold")
    refuse_once(three_hosts, "h2")

    operation = three_hosts.build("web", image="gold")

    assert (operation.phase, operation.host) == (Phase.FAILED, "h2")
    assert operation.failure is not None
    assert "h1: the image lies on host h2 only" in operation.failure.message


def test_a_guest_whose_image_was_deleted_meanwhile_ends(three_hosts: Fleet) -> None:
    three_hosts.build("first", host="h2")
    three_hosts.ask("instance.snapshot", "snap", instance="first", image="gold")
    refuse_once(three_hosts, "h2")
    three_hosts.begin_build("web", image="gold")
    desk = ImageDesk(three_hosts)
    desk.delete("gold")
    desk.deliver_all()

    three_hosts.post.deliver_all()

    operation = three_hosts.read("build-web")
    assert (operation.phase, operation.failure and operation.failure.code) == (Phase.FAILED, "DoesNotFit")
    assert operation.failure is not None
    assert "image: 'gold': no image of that name is registered" in operation.failure.message


def test_a_build_that_is_cancelled_before_it_moved_ends(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1")
    three_hosts.begin_build()
    deliver_until_settling(three_hosts)
    three_hosts.door.cancel("build-web")

    three_hosts.post.deliver_all()

    op = three_hosts.read("build-web")
    assert (op.phase, op.host, op.excluded_hosts) == (Phase.CANCELLED, "h1", ())
    assert read_held(three_hosts) == {}


def test_a_settlement_that_was_sent_twice_or_lost_settles_once(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1")
    three_hosts.begin_build()
    deliver_until_settling(three_hosts)
    settle = three_hosts.post.chains[0]
    three_hosts.post.chains.clear()  # lost
    three_hosts.clock.sleep(16.0)

    assert three_hosts.sweep.run() == 1
    three_hosts.post.deliver(three_hosts.post.chains[0])
    three_hosts.post.deliver(settle)
    three_hosts.post.deliver_all()

    operation = three_hosts.read("build-web")
    assert (operation.phase, operation.host, operation.excluded_hosts) == (Phase.SUCCEEDED, "h2", ("h1",))


def refuse_data_disk() -> None:
    raise DoesNotFit("mkswap is not installed on this host")


def test_a_host_that_cannot_make_a_disk_of_the_flavor_is_not_the_one(three_hosts: Fleet) -> None:
    do_during(three_hosts, "disks.ensure_data_disk", refuse_data_disk)

    operation = three_hosts.build("web", flavor={**SMALL, "swap_mib": 64})

    assert (operation.phase, operation.host, operation.excluded_hosts) == (Phase.SUCCEEDED, "h2", ("h1",))
    assert read_hosts(three_hosts)["h1"] == {"domains": [], "links": (), "files": []}


def test_late_messages_of_the_former_host_change_nothing(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1")
    three_hosts.begin_build()
    late = list(three_hosts.post.chains)
    three_hosts.post.deliver_all()

    for chain in late:
        three_hosts.post.deliver(chain)

    assert read_hosts(three_hosts)["h1"] == {"domains": [], "links": (), "files": []}


def test_a_delete_that_waits_while_it_is_taken_back_gets_it(three_hosts: Fleet) -> None:
    refuse_once(three_hosts, "h1")
    three_hosts.begin_build()
    three_hosts.post.deliver(three_hosts.post.chains[0])
    three_hosts.post.deliver(three_hosts.post.chains[0])
    do_during(
        three_hosts,
        "disks.ensure_removed",
        lambda: three_hosts.begin("instance.delete", "del", instance="web"),
    )

    three_hosts.post.deliver_all()

    assert three_hosts.read("del").phase is Phase.SUCCEEDED
    assert three_hosts.read("build-web").phase is Phase.CANCELLED
    assert read_held(three_hosts) == {}
