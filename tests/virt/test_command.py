"""virt/command.py against real programs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taskvisor.model.errors import DoesNotFit, Retryable
from virt.command import CommandFailed, find_program, run_command

ROOT = Path(__file__).parents[2]


def is_dead(pid: int) -> bool:
    """Gone, or a zombie that its new parent has not reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_dead(pid: int, limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_dead(pid):
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.01)


def test_what_the_program_writes_is_returned() -> None:
    assert run_command(["echo", "a b", "c"], time_limit_s=10) == "a b c\n"


def test_words_are_never_seen_by_a_shell() -> None:
    assert run_command(["echo", "$HOME; ls *"], time_limit_s=10) == "$HOME; ls *\n"


def test_a_program_that_is_not_installed_sends_the_build_to_another_host() -> None:
    assert find_program("no-such-program") is None
    with pytest.raises(DoesNotFit, match="no-such-program is not installed on this host"):
        run_command(["no-such-program"], time_limit_s=10)


def test_a_failure_tells_the_exit_code_and_what_the_program_said_last() -> None:
    with pytest.raises(CommandFailed, match="failed with exit code 3: too bad") as raised:
        run_command(["sh", "-c", "echo too bad >&2; exit 3"], time_limit_s=10)
    assert (raised.value.exit_code, raised.value.stderr) == (3, "too bad")


def test_only_the_tail_of_a_long_complaint_is_kept() -> None:
    with pytest.raises(CommandFailed) as raised:
        run_command(["sh", "-c", "seq 100000 >&2; echo last words >&2; exit 1"], time_limit_s=30)
    assert raised.value.stderr.endswith("last words")
    assert len(raised.value.stderr) <= 4096


def test_a_program_killed_by_a_signal_is_told_from_one_that_failed() -> None:
    with pytest.raises(CommandFailed, match="was ended by SIGTERM"):
        run_command(["sh", "-c", "kill -TERM $$"], time_limit_s=10)


def test_a_program_that_takes_too_long_is_killed() -> None:
    pids: list[int] = []
    started = time.monotonic()
    with pytest.raises(Retryable, match=r"was ended after 0.3 s"):
        run_command(
            ["sh", "-c", "echo $$; exec sleep 600"], time_limit_s=0.3, on_output=lambda chunk: pids.append(int(chunk))
        )
    assert time.monotonic() - started < 300  # and not the 600 of the program
    wait_until_dead(pids[0])


def test_a_program_that_closes_its_pipes_and_stays_is_killed_too() -> None:
    with pytest.raises(Retryable, match=r"was ended after 0.3 s"):
        run_command(["sh", "-c", "exec sleep 600 >&- 2>&-"], time_limit_s=0.3)


def test_endless_output_ends_the_program() -> None:
    with pytest.raises(Retryable, match="wrote more than 1000 bytes"):
        run_command(["yes"], time_limit_s=10, output_limit_bytes=1000)


def test_what_the_watcher_raises_passes_through_and_the_child_is_killed() -> None:
    pids: list[int] = []

    def stop(chunk: bytes) -> None:
        pids.append(int(chunk))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_command(["sh", "-c", "echo $$; exec sleep 600"], time_limit_s=10, on_output=stop)
    wait_until_dead(pids[0])


def test_memory_beyond_the_limit_is_refused_to_the_program() -> None:
    hog = [sys.executable, "-c", "bytearray(1 << 30)"]
    with pytest.raises(CommandFailed, match="MemoryError"):
        run_command(hog, time_limit_s=30, memory_limit_bytes=256 << 20)


def test_the_child_sees_a_fixed_environment_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the worker")
    output = run_command(["sh", "-c", "env; cat"], time_limit_s=10)
    assert "LC_ALL=C" in output
    assert "SECRET" not in output


@pytest.mark.real
def test_a_killed_worker_takes_its_child_with_it() -> None:
    program = (
        "import os\n"
        "from virt.command import run_command\n"
        "run_command(['sh', '-c', 'echo $$; exec sleep 600'], time_limit_s=600, on_output=lambda c: os.write(1, c))\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    assert not is_dead(child)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(10)
    worker.stdout.close()
    wait_until_dead(child)


def test_commands_of_several_threads_do_not_wait_for_each_other(tmp_path: Path) -> None:
    everybody_is_here = (
        f'touch {tmp_path}/$0; while [ "$(ls {tmp_path} | wc -l)" -lt 4 ]; do sleep 0.05; done; touch {tmp_path}/$0.met'
    )
    threads = [
        threading.Thread(
            target=run_command, args=(["sh", "-c", everybody_is_here, str(number)],), kwargs={"time_limit_s": 60}
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.glob("*.met"))) == 4


def test_cpu_time_is_bounded() -> None:
    with pytest.raises(CommandFailed, match="was ended by SIGXCPU"):
        run_command([sys.executable, "-c", "while True: pass"], time_limit_s=120, cpu_limit_s=1)


def test_what_is_written_to_a_file_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="was ended by SIGXFSZ"):
        run_command(["dd", "if=/dev/zero", f"of={tmp_path / 'x'}", "bs=4096"], time_limit_s=60, file_limit_bytes=8192)
    assert (tmp_path / "x").stat().st_size == 8192
