"""virt/stores/pool_notes.py, and what a removal makes of the note."""

from pathlib import Path

import pytest

from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.errors import Contradiction, Refused
from tests.contract.plans import instance_id, layout
from virt.disks import LocalDisks
from virt.stores.pool_notes import note_pools, read_pools

LVM, RBD = DiskBackend(kind=BackendKind.LVM, pool="guests"), DiskBackend(kind=BackendKind.RBD, pool="vms")


def test_pools_are_noted_beside_those_noted_before(tmp_path: Path) -> None:
    note_pools(tmp_path, (LVM,))
    note_pools(tmp_path, (RBD, LVM))
    assert read_pools(tmp_path) == (LVM, RBD)


def test_files_need_no_note(tmp_path: Path) -> None:
    note_pools(tmp_path, ())
    assert (read_pools(tmp_path), list(tmp_path.iterdir())) == ((), [])


def test_a_note_that_cannot_be_read_stops_a_removal(tmp_path: Path) -> None:
    disks = LocalDisks(tmp_path)
    planned = layout(tmp_path, backend=LVM)
    disks.ensure_directory(planned, instance_id())
    note = Path(planned.directory) / "pools.json"
    assert note.read_text() == '[{"kind":"lvm","pool":"guests"}]'
    note.write_text("[{")
    with pytest.raises(Contradiction, match="nothing was removed: mend it, then retry"):
        disks.ensure_removed(instance_id())
    assert note.exists()


def test_a_guest_in_a_pool_that_this_host_no_longer_reaches_is_not_forgotten(tmp_path: Path) -> None:
    disks = LocalDisks(tmp_path)
    planned = layout(tmp_path, backend=RBD)
    disks.ensure_directory(planned, instance_id())
    with pytest.raises(Refused, match="set TASKVISOR_CEPH_USER on it"):
        disks.ensure_removed(instance_id())
    assert disks.list_directories() == (instance_id(),)
