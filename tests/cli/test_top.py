"""`taskvisor top`: it fits any terminal, sorts and leaves by a key, bears a Redis that goes, and puts the terminal back."""

import signal
import time
from dataclasses import replace

import pytest
from rich.console import Console

from taskvisor.cli.top_view import Order, Picture, drawing_of
from taskvisor.model.ids import HostName
from taskvisor.model.measured import Sample
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase, VmState
from taskvisor.state.series import Series
from tests.cli.book import Book, begun, ended, failed, instance, operation
from tests.cli.conftest import Cli
from tests.cli.screens import on_screen

SIZES = [(20, 4), (40, 10), (80, 24), (100, 30), (160, 50)]


def drawn(picture: Picture, width: int, height: int, order: Order = Order.NAME) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(drawing_of(picture, order, width=width, height=height))
    return captured.get().splitlines()


def fetching(of: Operation) -> Operation:
    return begun(ended(begun(of, "prepare_disk"), "prepare_disk"), "fetch_image")


def fleet(book: Book, instances: int) -> Picture:
    for name in ("host-1", "host-with-a-name-that-is-long-enough-to-be-cut.example.org"):
        book.put_host(name)
    made = [instance(f"web-{n:03}", image_name="https://images.example/" + "x" * 80) for n in range(instances)]
    going = [fetching(operation(f"op-{n}", one)) for n, one in enumerate(made[:12])]
    stuck = failed(operation("op-s", made[0]), step="plug_vif", code="Contradiction", message="m", phase=Phase.STUCK)
    return Picture(
        at=time.time(),
        hosts=book.hosts.list_hosts(),
        instances=made,
        operations=(*going, stuck),
        progress={going[0].id: ("fetch_image", 30, 100)},
        host_samples={HostName("host-1"): Sample(at=time.time(), values={"cpu.percent": 0.42})},
        instance_samples={made[-1].id: Sample(at=time.time(), values={"cpu.usage": 0.91})},
    )


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("instances", [0, 1, 60])
def test_it_is_no_wider_and_no_higher_than_the_terminal(book: Book, width: int, height: int, instances: int) -> None:
    picture = fleet(book, max(1, instances)) if instances else Picture(at=time.time())
    lines = drawn(picture, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_what_does_not_fit_is_counted_and_what_is_cut_says_so(book: Book) -> None:
    lines = drawn(fleet(book, 60), 80, 24)
    text = "\n".join(lines)
    assert "more: INSTANCE" in text
    assert "more: OPERATION" in text
    assert "host-with-a-name" in text
    assert "…" in text
    shown = [line.split()[0] for line in lines if line.startswith("web-")]
    (told,) = [line for line in lines if line.endswith("more: INSTANCE")]
    assert len(shown) + int(told.split()[2]) == 60


def test_a_room_that_is_enough_is_used(book: Book) -> None:
    lines = drawn(fleet(book, 20), 160, 50)
    assert sum(line.startswith("web-") for line in lines) == 20
    assert "more:" not in "\n".join(lines)
    assert any("30 %" in line for line in lines)


def test_the_busiest_come_first_by_cpu_and_what_is_stuck_before_all(book: Book) -> None:
    lines = drawn(fleet(book, 20), 160, 60, Order.CPU)
    assert next(line for line in lines if line.startswith("web-")).startswith("web-019")
    assert "91 %" in next(line for line in lines if line.startswith("web-019"))
    after = lines[next(n for n, line in enumerate(lines) if line.startswith("OPERATION")) + 1]
    assert "stuck: plug_vif" in after


def test_what_is_wrong_comes_first_by_state() -> None:
    one = replace(instance("web-9"), vm_state=VmState.ERROR)
    picture = Picture(at=time.time(), instances=(instance("web-1"), one))
    lines = drawn(picture, 80, 24, Order.STATE)
    assert next(line for line in lines if line.startswith("web-")).startswith("web-9")


def test_without_a_terminal_it_says_what_to_use(cli: Cli) -> None:
    result = cli("top")
    assert result.exit_code == 2
    assert "top: needs a terminal; for scripts: `hosts`, `list`" in result.stderr


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (160, 50)])
def test_it_lives_on_a_terminal(environment: dict[str, str], book: Book, columns: int, rows: int) -> None:
    book.put_host()
    made = instance("web-1")
    book.put_instance(made)
    book.put_operation(fetching(operation("op-1", made)))
    Series(book.client, book.keys).append(HostName("host-1"), time.time(), {"cpu.percent": 0.5}, {})
    with on_screen(environment, "top", "--every", "0.5", columns=columns, rows=rows) as shown:
        text = shown.wait_for(lambda text: "web-1" in text and "by name" in text)
        assert "1/1 hosts up" in text
        assert "50 %" in text
        assert "fetch_image 2/5" in text
        book.put_instance(instance("web-2"))
        shown.wait_for(lambda text: "web-2" in text)
        shown.type("s")
        shown.wait_for(lambda text: "by CPU" in text)
        shown.resize(60, 12)
        shown.wait_for(lambda text: "by CPU" in text and all(len(line) <= 60 for line in text.splitlines()))
        shown.type("q")
        assert shown.wait() == 0
        assert shown.settings_now() == shown.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_however_it_is_ended_the_terminal_is_put_back(
    environment: dict[str, str], book: Book, number: signal.Signals
) -> None:
    book.put_host()
    with on_screen(environment, "top") as shown:
        shown.wait_for(lambda text: "host-1" in text)
        assert shown.settings_now() != shown.before
        shown.process.send_signal(number)
        shown.wait()
        assert shown.settings_now() == shown.before
