"""What the instances of a host are doing, counted as Nova counts it."""

from dataclasses import replace

from taskvisor.compute.stats import IO_TASKS, stats_for
from taskvisor.model.states import TaskState, VmState
from tests.support.records import instance

GUEST = replace(instance(ports=()), vm_state=VmState.ACTIVE, task_state=None)


def test_a_host_without_instances_counts_none() -> None:
    assert stats_for(()) == {"io_workload": 0, "num_instances": 0}


def test_instances_are_counted_by_what_they_are_and_do() -> None:
    built = replace(GUEST, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING, project="blue")
    copied = replace(GUEST, task_state=TaskState.IMAGE_SNAPSHOT, image_properties={"os_type": "linux"})
    assert stats_for((GUEST, built, copied)) == {
        "io_workload": 2,
        "num_instances": 3,
        "num_os_type_None": 2,
        "num_os_type_linux": 1,
        "num_proj_blue": 1,
        "num_proj_default": 2,
        "num_task_None": 1,
        "num_task_image_snapshot": 1,
        "num_task_spawning": 1,
        "num_vm_active": 2,
        "num_vm_building": 1,
    }


def test_tasks_that_keep_disks_busy_are_tasks_that_there_are() -> None:
    assert TaskState.IMAGE_SNAPSHOT.value in IO_TASKS
