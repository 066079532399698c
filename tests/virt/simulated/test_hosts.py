"""The simulated host beyond its ports' contracts (tests/contract): deaf guests, outsiders, deaths at any file operation."""

from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.ids import OperationId, image_id_for
from taskvisor.model.plan import DiskContent, DiskRole, Seed
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat, PowerState
from tests.contract.plans import ignore_progress, instance_id, layout, xml_for
from tests.fixtures.deaths import die_everywhere
from virt.simulated import SimulatedDisks, SimulatedHypervisor, SimulatedImageCache
from virt.simulated.outsider import SimulatedOutsider

GUEST, OTHER = instance_id(0), instance_id(1)
GIB = 1 << 30
IMAGE = image_id_for(OperationId("snapshot"))
SOURCE = ImageSource(url="simulated://tiny?virtual_gib=2")


def build(root: Path) -> None:
    """GUEST runs."""
    hypervisor, disks = SimulatedHypervisor(root), SimulatedDisks(root)
    planned = layout(root)
    disk = planned.disk(DiskRole.ROOT)
    disks.ensure_directory(planned, GUEST)
    disks.ensure_data_disk(
        replace(disk, path=f"{planned.directory}/disk.swap", size_bytes=GIB, content=DiskContent.SWAP)
    )
    disks.ensure_root(disk, SimulatedImageCache(root).ensure_cached(SOURCE, ignore_progress))
    disks.ensure_seed(planned.disk(DiskRole.SEED), Seed(meta_data="m", user_data="u", network_config="n"))
    hypervisor.ensure_defined(GUEST, xml_for(hypervisor.read_facts(), Path(disk.path)))
    hypervisor.ensure_running(GUEST)


def delete(root: Path) -> None:
    """Nothing of GUEST is left."""
    SimulatedHypervisor(root).ensure_undefined(GUEST)
    SimulatedDisks(root).ensure_removed(GUEST)


def guests_files(root: Path) -> set[str]:
    """All files of guests: not the cache, not what the host has one of (locks, the counter of boots)."""
    kept = (root / "cache",)
    files = (path for path in root.rglob("*") if path.is_file() and path.parent != root)
    return {str(path.relative_to(root)) for path in files if not any(path.is_relative_to(place) for place in kept)}


def require_running(root: Path) -> None:
    facts = SimulatedHypervisor(root).read_domain(GUEST)
    assert facts is not None
    assert facts.power_state is PowerState.RUNNING
    assert facts.boot_id is not None


def test_a_build_that_died_anywhere_is_done_again_or_taken_back(tmp_path: Path) -> None:
    def done_again() -> None:
        build(tmp_path)
        require_running(tmp_path)
        delete(tmp_path)
        assert guests_files(tmp_path) == set()

    assert die_everywhere(lambda: build(tmp_path), done_again) > 20


def test_a_build_that_died_anywhere_leaves_nothing_when_deleted(tmp_path: Path) -> None:
    def taken_back() -> None:
        delete(tmp_path)
        assert guests_files(tmp_path) == set()

    assert die_everywhere(lambda: build(tmp_path), taken_back) > 20


def test_a_delete_that_died_anywhere_is_done_again(tmp_path: Path) -> None:
    def built_and_deleted() -> None:
        build(tmp_path)
        delete(tmp_path)

    def done_again() -> None:
        delete(tmp_path)
        build(tmp_path)
        require_running(tmp_path)
        delete(tmp_path)
        assert guests_files(tmp_path) == set()

    assert die_everywhere(built_and_deleted, done_again) > 20


def test_a_guest_that_hears_the_power_button_turns_off(tmp_path: Path) -> None:
    build(tmp_path)
    SimulatedHypervisor(tmp_path).request_shutdown(GUEST)
    facts = SimulatedHypervisor(tmp_path).read_domain(GUEST)
    assert facts is not None
    assert facts.power_state is PowerState.SHUTDOWN


def test_a_deaf_guest_runs_on(tmp_path: Path) -> None:
    build(tmp_path)
    SimulatedHypervisor(tmp_path, deaf=[GUEST]).request_shutdown(GUEST)
    require_running(tmp_path)


@pytest.mark.parametrize("power_state", [PowerState.CRASHED, PowerState.SHUTDOWN])
def test_a_guest_that_ended_by_itself_is_started_anew(tmp_path: Path, power_state: PowerState) -> None:
    build(tmp_path)
    hypervisor = SimulatedHypervisor(tmp_path)
    before = hypervisor.ensure_running(GUEST)
    SimulatedOutsider(tmp_path).ensure_power_state(GUEST, power_state)
    facts = hypervisor.read_domain(GUEST)
    assert facts is not None
    assert (facts.power_state, facts.boot_id) == (power_state, None)
    assert hypervisor.ensure_running(GUEST).boot_id != before.boot_id


def test_outsiders_make_what_is_not_ours(tmp_path: Path) -> None:
    SimulatedDisks(tmp_path)
    outsider = SimulatedOutsider(tmp_path)
    outsider.ensure_foreign_directory(OTHER)
    outsider.ensure_foreign_domain(OTHER, "somebodys")
    assert SimulatedDisks(tmp_path).list_directories() == ()
    assert [facts.owned for facts in SimulatedHypervisor(tmp_path).list_domains()] == [False]
    outsider.ensure_domain_gone(OTHER)
    assert SimulatedHypervisor(tmp_path).list_domains() == ()


@pytest.mark.parametrize(
    ("url", "virtual_gib"),
    [
        ("simulated://tiny", 1),
        ("simulated://large?virtual_gib=40", 40),
        ("https://images.example/debian-12.qcow2", 1),
    ],
)
def test_an_image_that_is_no_file_is_taken_to_exist(tmp_path: Path, url: str, virtual_gib: int) -> None:
    cache = SimulatedImageCache(tmp_path)
    image = cache.ensure_cached(ImageSource(url=url), ignore_progress)
    assert (image.virtual_bytes, image.format) == (virtual_gib * GIB, ImageFormat.QCOW2)
    assert Path(image.path).is_file()
    assert cache.ensure_cached(ImageSource(url=url), ignore_progress) == image


@pytest.mark.parametrize("asked", ["0", "-1", "many", "100000"])
def test_an_image_of_an_impossible_size_is_refused(tmp_path: Path, asked: str) -> None:
    with pytest.raises(Refused):
        SimulatedImageCache(tmp_path).ensure_cached(
            ImageSource(url=f"simulated://x?virtual_gib={asked}"), ignore_progress
        )


def test_a_snapshot_can_be_built_from(tmp_path: Path) -> None:
    build(tmp_path)
    hypervisor, disks, cache = SimulatedHypervisor(tmp_path), SimulatedDisks(tmp_path), SimulatedImageCache(tmp_path)
    hypervisor.copy_disk(GUEST, "vda", disks.snapshot_path(IMAGE), ignore_progress)
    published = disks.publish(IMAGE, ignore_progress)
    source = ImageSource(url=Path(published.path).as_uri(), sha256=published.sha256, format=published.format)
    assert cache.ensure_cached(source, ignore_progress).virtual_bytes == published.virtual_bytes == 2 * GIB
