"""Tries mutants in a copy of the tree: change, run the tests, change back. The tree itself is only ever read."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import cache_from_source
from pathlib import Path

from tests.mutants.mutant import DoesNotApply, Mutant

TEST_LIMIT_S = 120
"""For one test: a mutant that never comes to an end is one that was noticed."""
TRIAL_LIMIT_S = 1800.0
END_LIMIT_S = 60.0
"""Between asking pytest to end, which takes its daemons with it, and killing it."""
LEFT_OUT = (".git", ".venv", ".cache", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "*.egg-info")
TESTS_FAILED = 1  # pytest's exit codes: https://docs.pytest.org/en/stable/reference/exit-codes.html
ALL_PASSED = 0


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"  # it does not apply any more, or its tests could not be run: it says nothing of the tests


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`said` are the tests that failed, or why nothing can be said."""

    mutant: Mutant
    fate: Fate
    said: tuple[str, ...]
    took_s: float


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a run of pytest ended: its exit code, None when it ran out of time, and what it printed."""

    code: int | None
    output: str

    @property
    def failed_tests(self) -> tuple[str, ...]:
        """As they are named in pytest's short summary."""
        found = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", self.output, re.MULTILINE)
        return tuple(dict.fromkeys(found))

    @property
    def last_lines(self) -> str:
        return "\n".join(self.output.splitlines()[-15:])


class Workshop:
    """A copy of the tree in which one mutant after another is tried."""

    def __init__(self, tree: Path, directory: Path) -> None:
        """Copy `tree` into `directory`, which is not there yet; its virtual environment is used where it is."""
        shutil.copytree(tree, directory, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        for shared in (".venv", ".cache"):
            if (tree / shared).exists():
                (directory / shared).symlink_to((tree / shared).resolve())
        self._directory = directory
        self._running: subprocess.Popen[str] | None = None

    def where_is(self, package: str) -> Path:
        """The file that tests here would import under that name."""
        asked = [sys.executable, "-c", f"import {package}; print({package}.__file__)"]
        said = subprocess.run(asked, cwd=self._directory, env=self._environment(), capture_output=True, check=True)
        return Path(said.stdout.decode().strip())

    def run_tests(self, tests: Sequence[str]) -> Ran:
        """Run them until the first one fails."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--no-header", "--tb=line", "-m", "not real"]
        command += ["-p", "no:cacheprovider", f"--timeout={TEST_LIMIT_S}", "--color=no", *tests]
        process = self._running = subprocess.Popen(
            command,
            cwd=self._directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        try:
            output, _ = process.communicate(timeout=TRIAL_LIMIT_S)
        except subprocess.TimeoutExpired:
            return Ran(code=None, output=_ended(process))
        except BaseException:
            _ended(process)
            raise
        return Ran(code=process.returncode, output=output)

    def stop(self) -> None:
        """From another thread: the tests that run now end as by ctrl-C, and their fixtures are torn down."""
        if self._running is not None:
            self._running.send_signal(signal.SIGINT)  # to one that has ended it does nothing

    def try_out(self, mutant: Mutant) -> Trial:
        """Whether any test notices it."""
        began_at = time.monotonic()
        try:
            with self._changed(mutant):
                fate, said = verdict_on(self.run_tests(mutant.tests))
        except DoesNotApply as problem:
            fate, said = Fate.BROKEN, (f"this mutant no longer applies: {problem}",)
        return Trial(mutant=mutant, fate=fate, said=said, took_s=time.monotonic() - began_at)

    @contextmanager
    def _changed(self, mutant: Mutant) -> Iterator[None]:
        originals = {file: (self._directory / file).read_text() for file in mutant.files}
        self._write(mutant.applied_to(originals))
        try:
            yield
        finally:
            self._write(originals)

    def _write(self, texts: Mapping[str, str]) -> None:
        for file, text in texts.items():
            path = self._directory / file
            path.write_text(text)
            # Python knows a source by its size and the second it was written in, and two mutants may share both.
            Path(cache_from_source(str(path))).unlink(missing_ok=True)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._directory)}


def verdict_on(ran: Ran) -> tuple[Fate, tuple[str, ...]]:
    """What a run says of the mutant that it was made with."""
    if ran.code == ALL_PASSED:
        return Fate.SURVIVED, ("all of its tests pass",)
    if ran.code == TESTS_FAILED and ran.failed_tests:
        return Fate.KILLED, ran.failed_tests
    if ran.code is None:
        return Fate.BROKEN, (f"its tests did not end within {TRIAL_LIMIT_S:.0f} s",)
    return Fate.BROKEN, (f"pytest ended with {ran.code}: {ran.last_lines}",)


def _ended(process: "subprocess.Popen[str]") -> str:
    """Ended as by ctrl-C, so that its fixtures are torn down; what it printed until then."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=END_LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]
