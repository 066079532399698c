"""`taskvisor console-log`."""

from pathlib import Path

import pytest

from tests.cli.book import Book, instance
from tests.cli.conftest import Cli


@pytest.fixture
def log(book: Book, tmp_path: Path) -> Path:
    made = book.put_instance(instance("web-1"))
    path = tmp_path / "instances" / made.id / "console.log"
    path.parent.mkdir(parents=True)
    return path


def test_the_last_lines_are_shown_harmless(cli: Cli, log: Path) -> None:
    log.write_bytes(b"one\r\n\x1b]0;title\x07two \x1b[31mred\xff\r\nthree\r\n")
    assert cli("console-log", "web-1", "-n", "2").stdout == "two red\ufffd\nthree\n"


def test_raw_is_as_the_guest_wrote_it(cli: Cli, log: Path) -> None:
    log.write_bytes(b"one\r\n\x1b[31mtwo\xff\r\n")
    assert cli("console-log", "web-1", "--raw").stdout_bytes == b"one\r\n\x1b[31mtwo\xff\r\n"


def test_an_empty_log_is_nothing_and_no_error(cli: Cli, log: Path) -> None:
    log.touch()
    result = cli("console-log", "web-1")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_log_that_is_not_there_is_a_sentence(cli: Cli, log: Path) -> None:
    result = cli("console-log", "web-1")
    assert result.exit_code == 1
    assert "there is no console log" in result.stderr


def test_the_log_of_another_host_is_read_there(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-2", host="host-2"))
    result = cli("console-log", "web-2")
    assert result.exit_code == 1
    assert "lies on host host-2, and this is host-1; run there: taskvisor console-log web-2" in result.stderr


def test_the_log_of_no_instance_is_a_sentence(cli: Cli) -> None:
    assert cli("console-log", "web-9").exit_code == 1
