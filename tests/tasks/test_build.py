"""instance.build from request to running guest, and what becomes of one that fails."""

from pathlib import Path

import msgspec
import pytest

from taskvisor.model.ids import HostName, instance_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.plan import Seed
from taskvisor.model.records import Resources
from taskvisor.model.states import Phase, PowerState, VirtType, VmState
from tests.support.audits import audit
from tests.support.fleet import IMAGE, SMALL, Fleet
from tests.support.spies import Moment
from tests.support.world import read_held, read_hosts
from virt.simulated.image_file import read_disk_file

H1 = HostName("h1")


def test_a_built_guest_runs_and_its_record_says_so(fleet: Fleet) -> None:
    operation = fleet.build("web", metadata={"role": "front"}, ssh_keys=["ssh-ed25519 AAAA me"])

    guest = fleet.instance()
    assert (guest.vm_state, guest.task_state, guest.power_state, guest.virt_type) == (
        VmState.ACTIVE,
        None,
        PowerState.RUNNING,
        VirtType.QEMU,
    )
    assert (guest.id, guest.host, guest.addresses) == (instance_id_for(operation.id), H1, ("10.152.0.2",))
    assert (guest.metadata, guest.ssh_keys, guest.fault) == ({"role": "front"}, ("ssh-ed25519 AAAA me",), None)
    assert guest.launched_at == guest.created_at == operation.created_at
    assert fleet.store.hosts.list_claims(H1) == ((guest.id, Resources(vcpus=1, memory_mib=64, disk_gib=1)),)
    domain = fleet.hosts[H1].ports.hypervisor.read_domain(guest.id)
    assert domain is not None
    assert (domain.power_state, domain.owned) == (PowerState.RUNNING, True)


def test_the_outcome_is_what_callers_see_of_the_guest(fleet: Fleet) -> None:
    operation = fleet.build()

    assert operation.result is not None
    assert (operation.result["name"], operation.result["vm_state"], operation.result["addresses"]) == (
        "web",
        "active",
        ["10.152.0.2"],
    )


def test_its_timeline_shows_every_step_in_order(fleet: Fleet) -> None:
    operation = fleet.build()

    assert [(entry.step, entry.attempt, entry.host, entry.outcome) for entry in operation.timeline] == [
        (step, 1, "h1", "done")
        for step in ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start")
    ]


def test_the_xml_is_kept_with_the_operation(fleet: Fleet) -> None:
    operation = fleet.build()

    assert operation.facts["render_xml"]["xml"].startswith('<domain type="qemu">')


def test_a_guest_has_as_many_links_as_it_asked_for(fleet: Fleet) -> None:
    fleet.build("web", networks=["default", "default"])

    guest = fleet.instance()
    assert guest.addresses == ("10.152.0.2", "10.152.0.3")
    owners = {link.owner for link in fleet.hosts[H1].ports.fabric.list_links()}
    assert owners == {f"taskvisor:{guest.id}:{port.id}" for port in guest.ports}


def test_a_guest_without_links_is_built(fleet: Fleet) -> None:
    assert fleet.build("web", networks=[]).phase is Phase.SUCCEEDED
    assert fleet.instance().addresses == ()


@pytest.mark.parametrize(
    ("name", "hostname"), [("web", "web"), ("web.example.com", "web-example-com"), ("Web-1", "web-1"), ("7", "7")]
)
def test_every_name_that_the_door_takes_makes_a_hostname(fleet: Fleet, name: str, hostname: str) -> None:
    operation = fleet.build(name, "op")

    assert operation.phase is Phase.SUCCEEDED, operation.failure
    seed_path = operation.facts["prepare_disk"]["layout"]["disks"][1]["path"]
    seed = msgspec.json.decode(Path(seed_path).read_bytes(), type=Seed)
    assert f'"local-hostname": "{hostname}"' in seed.meta_data


WITH_DISKS = {**SMALL, "swap_mib": 64, "ephemeral_gib": 2}


def test_a_guest_has_the_disks_of_its_flavor_and_they_go_with_it(fleet: Fleet) -> None:
    operation = fleet.build("web", flavor=WITH_DISKS)

    assert operation.phase is Phase.SUCCEEDED, operation.failure
    disks = {Path(disk["path"]).name: disk for disk in operation.facts["prepare_disk"]["layout"]["disks"]}
    assert {name: disk["content"] for name, disk in disks.items() if disk["content"]} == {
        "disk.eph0": "ext4",
        "disk.swap": "swap",
    }
    found = {name: read_disk_file(Path(disks[name]["path"])).virtual_bytes for name in ("disk.eph0", "disk.swap")}
    assert found == {"disk.eph0": 2 << 30, "disk.swap": 64 << 20}
    assert audit(fleet) == ()
    fleet.ask("instance.delete", "del", instance="web")
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


def test_a_build_that_fails_after_its_disks_were_made_leaves_none(fleet: Fleet) -> None:
    operation = fleet.build("web", flavor=WITH_DISKS, image="simulated://big?virtual_gib=9")

    assert (operation.phase, operation.failure and operation.failure.step) == (Phase.FAILED, "fetch_image")
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


def test_a_reboot_does_not_touch_the_disks_that_a_guest_has(fleet: Fleet) -> None:
    operation = fleet.build("web", flavor=WITH_DISKS)
    layout = operation.facts["prepare_disk"]["layout"]
    paths = [Path(disk["path"]) for disk in layout["disks"] if disk["content"]]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]

    fleet.ask("instance.reboot", "reboot", instance="web", type="hard")

    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == before


def test_names_addresses_and_claims_come_and_go_with_their_guests(fleet: Fleet) -> None:
    for number in range(3):
        fleet.build(f"web{number}")
    for number in range(3):
        fleet.ask("instance.delete", f"del-{number}", instance=f"web{number}")

    assert read_held(fleet) == {}
    assert fleet.build("web0", "again").phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("fields", "code", "step"),
    [
        ({"image": "/nosuch.qcow2"}, "Refused", "fetch_image"),
        ({"image": "simulated://big?virtual_gib=9"}, "Refused", "fetch_image"),
        ({"image": "simulated://odd?virtual_gib=x"}, "Refused", "fetch_image"),
    ],
)
def test_a_build_that_cannot_be_done_says_why_and_leaves_nothing(
    fleet: Fleet, fields: dict[str, object], code: str, step: str
) -> None:
    operation = fleet.build("web", "op", **fields)

    assert (
        operation.phase,
        operation.failure and operation.failure.code,
        operation.failure and operation.failure.step,
    ) == (
        Phase.FAILED,
        code,
        step,
    )
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


def foreign_domain(fleet: Fleet, operation: Operation) -> None:
    fleet.hosts[H1].outsider.ensure_foreign_domain(operation.instance_id, "stranger")


def foreign_directory(fleet: Fleet, operation: Operation) -> None:
    fleet.hosts[H1].outsider.ensure_foreign_directory(operation.instance_id)


def foreign_link(fleet: Fleet, operation: Operation) -> None:
    guest = fleet.instance(operation.instance_name)
    fleet.hosts[H1].neighbour.ensure_foreign_link(f"tap{guest.ports[0].id[:11]}")


@pytest.mark.parametrize(
    ("make_foreign", "step"),
    [(foreign_domain, "define_and_start"), (foreign_directory, "prepare_disk"), (foreign_link, "plug_vif")],
)
def test_what_belongs_to_another_is_left_alone_and_the_claim_is_kept(
    fleet: Fleet, make_foreign: object, step: str
) -> None:
    operation = fleet.begin_build("web", "op")
    make_foreign(fleet, operation)  # type: ignore[operator]
    before = read_hosts(fleet)["h1"]["domains"]

    fleet.post.deliver_all()

    stuck = fleet.read("op")
    assert (stuck.phase, stuck.failure and stuck.failure.code, stuck.current_step) == (
        Phase.STUCK,
        "Contradiction",
        step,
    )
    assert read_hosts(fleet)["h1"]["domains"] == before
    assert len(fleet.store.hosts.list_claims(H1)) == 1
    assert fleet.store.admission.read_holding(operation.instance_id) is not None


def test_an_image_is_fetched_once_for_many_guests(fleet: Fleet) -> None:
    for number in range(3):
        fleet.build(f"web{number}")

    assert len(list((fleet.hosts[H1].root / "cache").glob("*.qcow2"))) == 1


def test_a_step_that_finds_its_work_done_changes_nothing(fleet: Fleet) -> None:
    """Every `do` of the build, done again on the finished guest, by a runner that knows nothing of the first time."""
    fleet.build("web", "op")
    before = read_hosts(fleet)
    calls: list[str] = []
    fleet.watch(lambda name, moment: calls.append(name) if moment is Moment.BEFORE else None)
    fleet.client.hset("taskvisor:op:op", "doc", "null")
    fleet.client.delete("taskvisor:op:op", "taskvisor:names")

    again = fleet.begin_build("web", "op")
    fleet.post.deliver_all()

    assert fleet.read("op").phase is Phase.SUCCEEDED
    assert again.instance_id == instance_id_for(again.id)
    assert read_hosts(fleet) == before
    assert "hypervisor.ensure_running" in calls


def test_the_image_that_was_asked_for_is_kept_as_it_was_spelled(fleet: Fleet) -> None:
    fleet.build()

    assert (fleet.instance().image_name, fleet.instance().image.url) == (IMAGE, IMAGE)


def test_a_guest_keeps_the_machine_that_it_was_built_with(fleet: Fleet) -> None:
    fleet.build()

    guest = fleet.instance()
    assert guest.machine == fleet.hosts[H1].ports.hypervisor.read_facts().machine
