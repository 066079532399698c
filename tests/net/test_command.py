"""Bounds of subprocesses."""

import time

import pytest

from net.command import run_command
from taskvisor.model.errors import DoesNotFit, Retryable


def test_a_program_reads_its_input_and_is_heard_on_both_channels() -> None:
    ended = run_command(["sh", "-c", "cat; echo sorry >&2; exit 3"], stdin="words")
    assert (ended.ok, ended.exit_code, ended.stdout, ended.stderr) == (False, 3, b"words", b"sorry\n")
    assert str(ended).endswith("ended with exit code 3: sorry")


def test_large_input_and_output_do_not_lock_each_other_up() -> None:
    text = "x" * 1_000_000
    assert run_command(["cat"], stdin=text).stdout.decode() == text


def test_a_missing_program_is_named() -> None:
    with pytest.raises(DoesNotFit, match="no-such-program is not installed"):
        run_command(["no-such-program"])


@pytest.mark.parametrize("script", ["exec sleep 60", "exec >&- 2>&-; exec sleep 60"])
def test_a_program_that_does_not_end_is_ended(script: str) -> None:
    began = time.monotonic()
    with pytest.raises(Retryable, match="did not end in time"):
        run_command(["sh", "-c", script], time_limit_s=0.2)
    assert time.monotonic() - began < 50  # and not the 60 of the program


def test_a_program_that_writes_without_end_is_ended() -> None:
    with pytest.raises(Retryable, match="wrote more than 100000 bytes"):
        run_command(["yes"], output_limit_bytes=100_000)


def test_the_environment_is_ours_and_the_argv_is_as_given() -> None:
    assert b"LC_ALL=C\n" in run_command(["env"]).stdout
    shown = run_command(["sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline"]).stdout
    assert shown.startswith(b"sh -c ")
