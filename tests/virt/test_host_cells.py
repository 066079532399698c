"""A host's NUMA cells, read from what libvirt says of them."""

import pytest

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.observed import HostCell
from tests.virt.capabilities import read_capabilities
from virt.host_cells import parse_cells

ONE_CELL, TWO_CELLS = read_capabilities("qemu-7.2-host"), read_capabilities("kvm-8.2-host")


def test_a_host_without_numa_is_one_cell() -> None:
    assert parse_cells(ONE_CELL) == (
        HostCell(
            id=0,
            memory_mib=17242,
            cores=(frozenset({0}), frozenset({1})),
            pages={4: 4414006, 2048: 0, 1048576: 0},
        ),
    )


def test_a_cell_has_its_cores_with_their_threads_its_memory_and_its_pages() -> None:
    assert parse_cells(TWO_CELLS) == (
        HostCell(
            id=0,
            memory_mib=64233,
            cores=(frozenset({0, 8}), frozenset({1, 9}), frozenset({2, 10}), frozenset({3, 11})),
            pages={4: 14345833, 2048: 4096, 1048576: 0},
        ),
        HostCell(
            id=1,
            memory_mib=64497,
            cores=(frozenset({4, 12}), frozenset({5, 13}), frozenset({6, 14}), frozenset({7, 15})),
            pages={4: 14413608, 2048: 4096, 1048576: 2},
        ),
    )


def test_a_cpu_that_is_offline_is_nobodys() -> None:
    offline = "<cpu id='8' socket_id='0' die_id='0' core_id='0' siblings='0,8'/>"
    assert offline in TWO_CELLS
    assert parse_cells(TWO_CELLS.replace(offline, "<cpu id='8'/>"))[0].cores[0] == {0}


def test_cells_of_unknown_memory_are_not_known() -> None:
    assert (
        parse_cells("<capabilities><host><topology><cells><cell id='0'/></cells></topology></host></capabilities>")
        == ()
    )
    assert parse_cells("<capabilities/>") == ()


@pytest.mark.parametrize(("right", "wrong"), [("siblings='0,8'", "siblings='8-0'"), ("size='2048'", "size='2M'")])
def test_cells_that_make_no_sense_are_unreadable(right: str, wrong: str) -> None:
    with pytest.raises(UnreadableRecord, match="NUMA cells"):
        parse_cells(TWO_CELLS.replace(right, wrong))
