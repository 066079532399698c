"""What the pages for people say: their links, anchors, and what they tell to type. Must never know what is true of it."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.machine import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
STARTS = re.compile(r"(?:^|/)taskvisor$")
ENDS_OF_COMMANDS = re.compile(r"[;|&()<>]+")
RUNS_ANOTHER = ("ssh",)
ALTERNATIVES = re.compile(r"(?<=\w)\|(?=\w)")


@dataclass(frozen=True, kw_only=True)
class Typed:
    """A command line of ours, as a page has it: `words` are those after `taskvisor`."""

    page: str
    words: tuple[str, ...]
    whole: bool
    """It is in a block that can be copied, not a mention in a sentence or a table."""

    def __str__(self) -> str:
        return f"{self.page}: taskvisor {shlex.join(self.words)}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose_of(text: str) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", text)


def links_of(text: str) -> list[str]:
    """Where the page's links lead, as they are written; code is no link."""
    return LINK.findall(CODE.sub("code", prose_of(text)))


def anchors_of(text: str) -> set[str]:
    """Of each heading the anchor, as code forges and our site make it: small letters, `-` for blanks, no punctuation."""
    found: list[str] = []
    for heading in HEADING.findall(prose_of(text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        times = sum(1 for other in found if other == slug)
        found.append(slug)
        if times:
            found.append(f"{slug}-{times}")
    return set(found)


def blocks_of(text: str, language: str) -> list[str]:
    """The blocks of code in a language, without their indentation."""
    return [
        re.sub(rf"^{indent}", "", block, flags=re.M)
        for indent, named, block in FENCE.findall(text)
        if named == language
    ]


def commands_of(page: Path) -> Iterator[Typed]:
    """Every command line of `taskvisor` on the page: in blocks of shell, and in code in sentences and tables."""
    text = page.read_text()
    for _, language, block in FENCE.findall(text):
        if language in ("", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                yield from _commands_in(line.strip().removeprefix("$ "), page, whole=True)
    for code in CODE.findall(prose_of(text)):
        yield from _commands_in(" ".join(code.split()), page, whole=False)


def _commands_in(line: str, page: Path, *, whole: bool) -> Iterator[Typed]:
    for words in _split(line):
        here = next((number for number, word in enumerate(words) if STARTS.search(word)), None)
        if here is None or not words[here + 1 :] or not words[here + 1][0].islower():
            continue
        if not all("=" in word for word in words[:here]) and words[0] not in RUNS_ANOTHER:
            continue
        for one in _spelled_out(tuple(words[here + 1 :])):
            yield Typed(page=name_of(page), words=one, whole=whole and "…" not in words)


def _split(line: str) -> Iterator[list[str]]:
    """The words of each command in a line of shell; nothing of a line that is none, like a table that was printed."""
    lexer = shlex.shlex(ALTERNATIVES.sub("\x01", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe in a sentence
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if ENDS_OF_COMMANDS.fullmatch(word):
            yield command
            command = []
        else:
            command.append(word)


def _spelled_out(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """`a b|c` are `a b` and `a c`."""
    for number, word in enumerate(words):
        if "\x01" in word:
            for one in word.split("\x01"):
                yield from _spelled_out((*words[:number], one, *words[number + 1 :]))
            return
    yield words
