"""What a mutant is: a promise, and the change of text that breaks it. Knows nothing of what is changed, or how it is run."""

from collections.abc import Mapping
from dataclasses import dataclass

ENGINE = (
    "tests/flow",
    *(
        f"tests/state/test_{part}.py"
        for part in ("journal", "admission", "admission_leases", "addresses", "transaction", "catalog", "events")
    ),
    "tests/tasks",
)
"""The suite of whatever orders effects and records."""
HOST = ("tests/contract", "tests/virt/simulated", "tests/net/test_simulated.py", "tests/flow", "tests/tasks")
"""The suite of the ports' adapters."""
TRANSPORT = ("tests/workers/test_inflight.py", "tests/workers/test_transport.py", "tests/workers/test_envelope.py")
"""The suite of whatever brings messages."""


class DoesNotApply(Exception):
    """The old text is not there exactly once: the code has changed, and the mutant must be changed with it or dropped."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """In one file, `old` becomes `new`."""

    file: str
    old: str
    new: str

    def applied_to(self, text: str) -> str:
        """The text with the change. DoesNotApply unless `old` is there exactly once."""
        times = text.count(self.old)
        if times != 1:
            raise DoesNotApply(f"{self.file} has {self.old.strip()!r} {times} times, not once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`promise` is what holds of the code as it is, and not of the mutant. `first` are the tests that ought to notice."""

    name: str
    promise: str
    edits: tuple[Edit, ...]
    first: tuple[str, ...] = ()
    suite: tuple[str, ...] = ENGINE

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it changes, each once."""
        return tuple(dict.fromkeys(edit.file for edit in self.edits))

    @property
    def tests(self) -> tuple[str, ...]:
        """What is run, in this order, until one fails."""
        return (*self.first, *(part for part in self.suite if part not in self.first))

    def applied_to(self, texts: Mapping[str, str]) -> dict[str, str]:
        """The files' texts with the change. DoesNotApply when one of the edits does not."""
        changed = {file: texts[file] for file in self.files}
        for edit in self.edits:
            changed[edit.file] = edit.applied_to(changed[edit.file])
        return changed


def mutant_of(file: str, name: str, promise: str, old: str, new: str, *first: str) -> Mutant:
    """The mutant of the engine that is one change in one file, which is what most are."""
    return Mutant(name=name, promise=promise, edits=(Edit(file=file, old=old, new=new),), first=first)
