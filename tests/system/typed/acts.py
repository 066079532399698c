"""One line of a page, and what it comes to when it is typed. Pure: must never know how, where or whether anything is run.

A chapter is a sequence of acts in the order of a story. What an act has learned (`keeps`) stands in later ones as `<name>`.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from tests.system.typed.scene import Scene

DESK = "kvm7"
"""The machine that is typed at, unless an act says another."""
KNOWN = re.compile(r"<([a-z][a-z0-9_]*)>")
PLACEHOLDER = re.compile(r"…|[\[\]]|\b(NAME|HOST|ID|IMAGE|FILE|KEY|CODE|SOURCE|ARGS|NETWORK)\b")


class Way(Enum):
    """How a command ends."""

    BY_ITSELF = auto()
    AGAIN = auto()  # by itself, and it is typed again until it says what is awaited
    ON_A_TERMINAL = auto()  # by itself or by `keys`, on a terminal
    BY_CTRL_C = auto()  # when it has said what is awaited; `meanwhile` is typed until it has
    STAYS = auto()  # a service: it runs on until the scene ends it under its `name`


@dataclass(frozen=True, kw_only=True)
class Act:
    """`taskvisor` and these words are typed, and this comes of it."""

    line: str
    """As a page has it, after `taskvisor`; or, with `besides`, what no page has and the story needs."""
    says: tuple[str, ...]
    """Patterns (re.MULTILINE) of what must be in its output, where runs of blanks are one."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What stands for a word of the page: NAME, …"""
    then: str = ""
    """Completes a mention that is the head of a command only."""
    code: int = 0
    way: Way = Way.BY_ITSELF
    at: str = DESK
    keys: str = ""
    asks: str = ""
    """What keys are the answer to; else they are typed when it has said what is awaited."""
    name: str = ""
    meanwhile: "Act | None" = None
    keeps: Mapping[str, str] = field(default_factory=dict)
    """Names, and patterns whose group is kept under them: of all that was said until it ended."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables that the machine does not have anyway."""
    besides: bool = False

    def __str__(self) -> str:
        return f"taskvisor {self.line}"

    @property
    def page_words(self) -> tuple[str, ...]:
        """As `tests.support.pages` tells them."""
        return tuple(shlex.split(self.line))

    @property
    def typed_words(self) -> tuple[str, ...]:
        """What is typed; `<name>` is still to be filled in."""
        words = (self.given.get(word, word) for word in self.page_words)
        return (*(word for word in words if word), *shlex.split(self.then))


@dataclass(frozen=True, kw_only=True)
class Between:
    """Done by the test between two acts, for what no page tells to type: what a guest, a disaster or another person does."""

    what: str
    do: "Callable[[Scene], object]"


Part = Act | Between | tuple[Act, ...]
"""Several acts are typed at the same moment."""
Chapter = tuple[Part, ...]


class _Fields(TypedDict, total=False):
    """What may be said of an act besides its line and what it says; see `Act`."""

    given: Mapping[str, str]
    then: str
    code: int
    way: Way
    at: str
    keys: str
    asks: str
    name: str
    meanwhile: Act
    keeps: Mapping[str, str]
    settings: Mapping[str, str]


def typed(line: str, *says: str, **more: Unpack[_Fields]) -> Act:
    """A line of a page."""
    return Act(line=line, says=says, **more)


def besides(line: str, *says: str, **more: Unpack[_Fields]) -> Act:
    """What the story needs and no page has in these words."""
    return Act(line=line, says=says, besides=True, **more)


def acts_of(chapter: Chapter) -> Iterator[Act]:
    """All that are typed in it, in its order; those that are typed meanwhile, too."""
    for part in chapter:
        for act in part if isinstance(part, tuple) else (part,):
            if isinstance(act, Act):
                yield act
                if act.meanwhile is not None:
                    yield act.meanwhile


def what_is_wrong_with(act: Act) -> str:
    """Empty, or why it can't be what the page means."""
    unused = act.given.keys() - set(act.page_words)
    if unused:
        return f"{', '.join(sorted(unused))}: is not a word of the line"
    left = [word for word in act.typed_words if PLACEHOLDER.search(word)]
    if left:
        return f"{', '.join(left)}: nothing stands for it"
    return "" if act.says else "nothing of what it says is looked at"
