"""The command as a process: on a terminal, in a pipe, and interrupted."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.book import Book, begun, ended, instance, operation, succeeded
from tests.fixtures.machine import ROOT

LIMIT_S = 20.0


class OnTerminal:
    """The command on a pseudo-terminal of 80 columns."""

    def __init__(self, environment: Mapping[str, str], *words: str) -> None:
        self._master, slave = pty.openpty()
        sizes = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
        variables = {**os.environ, **sizes, **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "taskvisor.cli", *words],
            env=variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._master, 4096)
            except OSError:  # EIO: the last writer has closed the terminal
                return
            self.text += read.decode(errors="replace")

    def wait_for(self, condition: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def wait(self) -> int:
        code = self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        os.close(self._master)


Run = Callable[..., OnTerminal]


@pytest.fixture
def run(environment: dict[str, str]) -> Iterator[Run]:
    made: list[OnTerminal] = []

    def start(*words: str, **more: str) -> OnTerminal:
        made.append(OnTerminal({**environment, **more}, *words))
        return made[-1]

    yield start
    for one in made:
        one.close()


def without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_steps_are_drawn_live_with_a_bar_for_the_image(run: Run, book: Book) -> None:
    made = instance("web-1")
    going = book.put_operation(begun(operation("op-1", made), "prepare_disk"))
    terminal = run("ops", "follow", "op-1")
    terminal.wait_for(lambda text: "prepare_disk" in text)
    going = book.put_operation(begun(ended(going, "prepare_disk"), "fetch_image"))
    book.note_progress(going, "fetch_image", 150 * 1024**2, 300 * 1024**2)
    terminal.wait_for(lambda text: "50 % of 300 MiB" in without_colour(text))
    book.put_operation(succeeded(going, made))
    assert terminal.wait() == 0
    last = without_colour(terminal.text).replace("\r", "")
    for name in ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start"):
        assert f"✓ {name}" in last
    assert "web-1 is running on host-1, 10.152.0.2" in last
    assert "\x1b[?25h" in terminal.text  # the cursor is back


def test_without_colour_there_is_none(run: Run, book: Book) -> None:
    book.put_instance(instance("web-1"))
    terminal = run("list", NO_COLOR="1")
    assert terminal.wait() == 0
    assert "active" in terminal.text
    assert "\x1b[3" not in terminal.text
    coloured = run("list")
    coloured.wait()
    assert "\x1b[32m" in coloured.text


def test_a_dumb_terminal_gets_lines(run: Run, book: Book) -> None:
    made = instance("web-1")
    book.put_operation(succeeded(operation("op-1", made), made))
    terminal = run("ops", "follow", "op-1", TERM="dumb")
    assert terminal.wait() == 0
    assert "\x1b" not in terminal.text
    assert "fetch_image done in" in terminal.text


def test_ctrl_c_detaches_and_the_operation_goes_on(run: Run, book: Book) -> None:
    book.put_operation(begun(operation("op-1", instance("web-1")), "prepare_disk"))
    terminal = run("ops", "follow", "op-1")
    terminal.wait_for(lambda text: "prepare_disk" in text)
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.wait() == 4
    told = " ".join(without_colour(terminal.text).split())
    assert "Detached; nothing is cancelled. Take it up again with: taskvisor ops follow op-1" in told
    assert "Traceback" not in terminal.text
    assert not any("cancel" in key for key in book.client.lrange("compute", 0, -1))


def test_a_pipe_is_never_cut(environment: dict[str, str], book: Book) -> None:
    image = "https://images.example/" + "x" * 300
    book.put_instance(instance("web-1", image_name=image))
    done = subprocess.run(
        [sys.executable, "-m", "taskvisor.cli", "list"],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT), "COLUMNS": "40"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert done.stdout.splitlines()[1].endswith(image)
    assert "\x1b" not in done.stdout


def test_a_reader_that_goes_away_is_no_traceback(environment: dict[str, str], book: Book, tmp_path: Path) -> None:
    for number in range(300):
        book.put_instance(instance(f"web-{number}", image_name="x" * 300))
    done = subprocess.run(
        ["/bin/bash", "-c", f"{sys.executable} -m taskvisor.cli list -f json | head -n 1"],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout == "[\n"
    assert "Traceback" not in done.stderr
