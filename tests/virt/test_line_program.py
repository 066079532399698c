"""A program that tells things in lines, against real programs. See test_command.py for programs that run to their end."""

import sys
import threading
import time

import psutil
import pytest

from taskvisor.model.errors import Retryable
from virt import command
from virt.command import LineProgram

LIMIT_S = 30.0
PYTHON = (sys.executable, "-u", "-c")


def read_until_end(program: LineProgram) -> tuple[list[bytes], str]:
    """All its lines, and how it ended."""
    lines: list[bytes] = []
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            lines.extend(program.read_lines(0.1))
        except Retryable as end:
            return lines, str(end)
    raise AssertionError(f"it has not ended; it wrote {lines}")


def test_lines_come_whole_however_they_were_written() -> None:
    program = LineProgram(
        [*PYTHON, "import os, time\nos.write(1, b'a\\nb')\ntime.sleep(0.2)\nos.write(1, b'c\\n\\n')"], {}
    )
    assert read_until_end(program)[0] == [b"a", b"bc", b""]


def test_silence_is_no_line() -> None:
    program = LineProgram([*PYTHON, "import time; time.sleep(1000)"], {})
    assert program.read_lines(0.01) == ()
    program.close()
    program.close()


def test_its_end_is_told_with_how_it_came() -> None:
    assert "failed with exit code 3" in read_until_end(LineProgram([*PYTHON, "raise SystemExit(3)"], {}))[1]


def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LINE_LIMIT_BYTES", 1000)
    program = LineProgram([*PYTHON, "while True: print('x' * 999, end='')"], {})
    assert "a line of more than 1000 bytes" in read_until_end(program)[1]
    program.close()


def test_it_has_the_environment_that_it_is_given_and_no_other() -> None:
    program = LineProgram(
        [*PYTHON, "import os; print(os.environ.get('GIVEN'), os.environ.get('HOME'))"], {"GIVEN": "1"}
    )
    assert read_until_end(program)[0] == [b"1 None"]


def test_a_program_that_is_not_there_may_be_there_later() -> None:
    with pytest.raises(Retryable, match="cannot be started"):
        LineProgram(["/nonexistent/program"], {})


def test_it_dies_with_the_thread_that_opened_it() -> None:
    opened: list[LineProgram] = []
    thread = threading.Thread(target=lambda: opened.append(LineProgram([*PYTHON, "import time; time.sleep(1000)"], {})))
    thread.start()
    thread.join()
    assert "was ended by SIGKILL" in read_until_end(opened[0])[1]
    assert not psutil.pid_exists(opened[0].pid)
