"""What a simulated host says that it can give."""

import pytest

from virt.simulated.offers import KIB_PER_MIB, MACHINE, SUPPORT, cells_for


def test_the_machine_is_a_full_name_and_q35_stands_for_it() -> None:
    assert SUPPORT.machines is not None
    assert SUPPORT.machines["q35"] == SUPPORT.machines[MACHINE] == MACHINE
    assert {SUPPORT.machines[full] for full in SUPPORT.machines.values()} == set(SUPPORT.machines.values())


@pytest.mark.parametrize(("cpus", "cells"), [(1, 1), (2, 1), (4, 2), (6, 1), (64, 2)])
def test_each_cpu_is_in_one_core_of_one_cell_and_no_memory_is_made_up(cpus: int, cells: int) -> None:
    made = cells_for(cpus, 4096)
    assert sorted(cpu for cell in made for core in cell.cores for cpu in core) == list(range(cpus))
    assert ([cell.id for cell in made], sum(cell.memory_mib for cell in made)) == (list(range(cells)), 4096)
    for cell in made:
        assert sum(size * count for size, count in cell.pages.items()) == cell.memory_mib * KIB_PER_MIB
