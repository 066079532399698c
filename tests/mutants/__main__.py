"""`python -m tests.mutants [--list] [--only NAME]... [-j N]`: tries mutants, and says which tests notice. See `make mutants`.

Exit codes: 0 when all were killed; 1 when one survived or says nothing; 2 when the tests fail without any mutant, or the
command was asked for what it does not know; 130 when it was stopped.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console
from rich.table import Column, Table

from tests.fixtures.machine import ROOT
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.trial import ALL_PASSED, Fate, Trial, Workshop

WIDTH = 200


class NotTried(Exception):
    """The mutants cannot be tried, and why."""


def main() -> int:
    """Try the mutants asked for, and print what became of them."""
    asked = _arguments().parse_args()
    chosen = tuple(mutant for mutant in MUTANTS if not asked.only or mutant.name in asked.only)
    unknown = set(asked.only) - {mutant.name for mutant in chosen}
    if unknown:
        print(f"mutants: there is none named {', '.join(sorted(unknown))}; see --list", file=sys.stderr)
        return 2
    if asked.list:
        print("\n".join(f"{mutant.name:40} {mutant.promise}" for mutant in chosen))
        return 0
    # SIGINT too: a shell's background job would ignore it, and pass that on to the tests.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    began_at = time.monotonic()
    try:
        trials = tuple(trials_of(chosen, at_once=asked.jobs))
    except NotTried as problem:
        print(f"mutants: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mutants: stopped on request; nothing is left", file=sys.stderr)
        return 130
    _print_table(sorted(trials, key=lambda trial: chosen.index(trial.mutant)))
    killed = sum(trial.fate is Fate.KILLED for trial in trials)
    print(f"{killed} of {len(trials)} mutants were killed, in {time.monotonic() - began_at:.0f} s")
    return 0 if killed == len(trials) else 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Break the engine, and see which tests notice."
    )
    parser.add_argument("--list", action="store_true", help="say what there is, and try nothing")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="try this one (may be given again)")
    parser.add_argument(
        "-j", dest="jobs", type=int, default=1, choices=range(1, 17), metavar="N", help="so many at once"
    )
    return parser


def trials_of(mutants: Sequence[Mutant], *, at_once: int) -> Iterator[Trial]:
    """Each mutant's trial as it ends. NotTried when the tests fail without a mutant: then they would fail with each."""
    with tempfile.TemporaryDirectory(prefix="tvt-mutants-") as directory, ThreadPoolExecutor(at_once) as pool:
        workshops = [Workshop(ROOT, Path(directory) / str(number)) for number in range(at_once)]
        _require_sound(workshops[0], mutants)
        free: SimpleQueue[Workshop] = SimpleQueue()
        for workshop in workshops:
            free.put(workshop)
        try:
            for future in as_completed([pool.submit(_tried, free, mutant) for mutant in mutants]):
                yield _told(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for workshop in workshops:
                workshop.stop()
            raise


def _require_sound(workshop: Workshop, mutants: Sequence[Mutant]) -> None:
    found = workshop.where_is("taskvisor")
    if found.is_relative_to(ROOT):
        raise NotTried(f"the copy's tests would run {found}, not the copy's own code")
    tests = tuple(dict.fromkeys(part for mutant in mutants for part in mutant.tests))
    print(f"without a mutant: {len(tests)} files and folders of tests", file=sys.stderr, flush=True)
    ran = workshop.run_tests(tests)
    if ran.code != ALL_PASSED:
        raise NotTried(f"the tests fail without any mutant:\n{ran.last_lines}")


def _tried(free: "SimpleQueue[Workshop]", mutant: Mutant) -> Trial:
    workshop = free.get()
    try:
        return workshop.try_out(mutant)
    finally:
        free.put(workshop)


def _told(trial: Trial) -> Trial:
    print(f"{trial.fate.value:8} {trial.mutant.name:40} {trial.took_s:4.0f} s", file=sys.stderr, flush=True)
    return trial


def _print_table(trials: Sequence[Trial]) -> None:
    table = Table("mutant", "takes away", Column("killed by", overflow="fold"))
    for trial in trials:
        said = "\n".join(trial.said)
        by = said if trial.fate is Fate.KILLED else f"{trial.fate.value}: {said}"
        table.add_row(trial.mutant.name, trial.mutant.promise, by)
    Console(width=None if os.isatty(sys.stdout.fileno()) else WIDTH, markup=False, highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
