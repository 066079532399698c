"""What a look at a machine says before it becomes a host: a row a check. Values only."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a finding means for a host."""

    OK = "ok"
    WARNING = "warning"  # guests run, but slower, or less safely
    PROBLEM = "problem"  # guests can't run here


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """One check: what is so, and what to do about it; the advice is empty where there is nothing to do."""

    check: str
    found: str
    verdict: Verdict = Verdict.OK
    advice: str = ""

    @property
    def sentence(self) -> str:
        """What is so and what to do, in one."""
        return f"{self.found}; {self.advice}" if self.advice else self.found


def row_of_problem(check: str, sentence: str, verdict: Verdict = Verdict.PROBLEM) -> CheckRow:
    """The row of a sentence like "this is so; do that"."""
    found, _, advice = sentence.partition("; ")
    return CheckRow(check=check, found=found, verdict=verdict, advice=advice)
