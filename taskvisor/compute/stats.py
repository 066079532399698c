"""What the instances of a host are doing, counted: Nova's stats (nova/compute/stats.py), from one reading of the records."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from taskvisor.model.records import Instance
from taskvisor.model.states import VmState

IO_TASKS: Final = frozenset(
    {"rebuilding", "resize_prep", "resize_migrating", "image_snapshot", "image_backup", "rescuing", "unshelving"}
)
"""Tasks that keep a host's disks busy, by Nova's list."""


def stats_for(instances: Iterable[Instance]) -> Mapping[str, int]:
    """num_instances, num_vm_<vm_state>, num_task_<task_state>, num_os_type_<os>, num_proj_<project> and io_workload.

    Nothing is counted as None, as Nova does: num_task_None is an instance at rest.
    """
    counted: Counter[str] = Counter({"num_instances": 0, "io_workload": 0})
    for instance in instances:
        task = None if instance.task_state is None else instance.task_state.value
        counted["num_instances"] += 1
        counted[f"num_vm_{instance.vm_state.value}"] += 1
        counted[f"num_task_{task}"] += 1
        counted[f"num_os_type_{instance.image_properties.get('os_type')}"] += 1
        counted[f"num_proj_{instance.project}"] += 1
        counted["io_workload"] += (instance.vm_state is VmState.BUILDING) + (task in IO_TASKS)
    return dict(sorted(counted.items()))
