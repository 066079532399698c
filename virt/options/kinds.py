"""How the text of an option is read. Each kind says in words what it takes, for the refusal and for the page of options."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

MOST_CPUS = 4096
SHOWN_CHARACTERS = 80
TRUE_TEXTS = frozenset({"1", "t", "true", "on", "y", "yes"})
FALSE_TEXTS = frozenset({"0", "f", "false", "off", "n", "no"})
"""What oslo.utils takes, and so Nova: in any case, with spaces around."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an option's text may be. `parse` raises ValueError for anything else; `words` complete "it must be …"."""

    words: str
    parse: Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class CpuMask:
    """Some of the guest's CPUs: those included (None: all), without those excluded (`^0` is all but the first)."""

    included: frozenset[int] | None
    excluded: frozenset[int] = frozenset()

    def cpus(self, vcpus: int) -> frozenset[int]:
        """The CPUs of a guest that has so many; a CPU that it lacks stays in, for the caller to refuse."""
        return (frozenset(range(vcpus)) if self.included is None else self.included) - self.excluded


@dataclass(frozen=True, kw_only=True)
class CpuFlag:
    """A CPU flag to add, or to take away."""

    name: str
    wanted: bool


@dataclass(frozen=True, kw_only=True)
class PciRequest:
    """So many devices of the host that bear that alias, or are of that vendor and product."""

    alias: str
    count: int


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in TRUE_TEXTS:
        return True
    if word in FALSE_TEXTS:
        return False
    raise ValueError(text)


def _cpu_mask(text: str) -> CpuMask:
    included: set[int] = set()
    excluded: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\^?)([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None:
            raise ValueError(text)
        first, last = int(match[2]), int(match[3] or match[2])
        if not first <= last < MOST_CPUS or (match[1] and match[3]):
            raise ValueError(text)
        (excluded if match[1] else included).update(range(first, last + 1))
    return CpuMask(included=frozenset(included) or None, excluded=frozenset(excluded))


def _cpu_set(text: str) -> frozenset[int]:
    mask = _cpu_mask(text)
    if mask.included is None or not mask.included - mask.excluded:
        raise ValueError(text)
    return mask.included - mask.excluded


def _flags(text: str) -> tuple[CpuFlag, ...]:
    flags = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"([+-]?)([A-Za-z0-9_.-]{1,64})", part)
        if match is None:
            raise ValueError(text)
        flags.append(CpuFlag(name=match[2], wanted=match[1] != "-"))
    return tuple(flags)


def _pci_requests(text: str) -> tuple[PciRequest, ...]:
    requests = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"([A-Za-z0-9_.-]{1,64}|[0-9a-f]{4}:[0-9a-f]{4}):([1-9][0-9]?)", part)
        if match is None:
            raise ValueError(text)
        requests.append(PciRequest(alias=match[1], count=int(match[2])))
    return tuple(requests)


def _host_path(text: str) -> str:
    if not re.fullmatch(r"(/[^/\x00-\x1f\x7f]+)+", text) or ".." in text.split("/"):
        raise ValueError(text)
    return text


def whole(least: int, most: int) -> Kind:
    """A whole number in decimal, within bounds."""

    def parse(text: str) -> int:
        word = text.strip()
        if not re.fullmatch(r"-?[0-9]{1,15}", word) or not least <= int(word) <= most:
            raise ValueError(text)
        return int(word)

    return Kind(words=f"a whole number from {least} to {most}", parse=parse)


def one_of(choices: type[StrEnum], **also: StrEnum) -> Kind:
    """One of a closed set, in any case; `also` are other spellings that Nova takes."""
    spellings = {choice.value: choice for choice in choices} | {key.replace("_", "-"): also[key] for key in also}

    def parse(text: str) -> StrEnum:
        try:
            return spellings[text.strip().lower()]
        except KeyError as error:
            raise ValueError(text) from error

    return Kind(words=f"one of {', '.join(spellings)}", parse=parse)


def matching(pattern: str, words: str) -> Kind:
    """Text of one form."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return Kind(words=words, parse=parse)


BOOLEAN = Kind(words="true or false (also yes/no, on/off, 1/0)", parse=_boolean)
CPU_SET = Kind(words="numbers of CPUs, like 0-3,8", parse=_cpu_set)
CPU_MASK = Kind(words="numbers of CPUs, like 0-3 or ^0 (all but CPU 0)", parse=_cpu_mask)
CPU_FLAGS = Kind(words="CPU flags, like pcid,-vmx", parse=_flags)
PCI_REQUESTS = Kind(
    words="aliases, or vendor:product, and how many of each, like gpu:1,10de:1db4:2", parse=_pci_requests
)
HOST_PATH = Kind(words="an absolute path on the host, without '..'", parse=_host_path)


def shown(text: str) -> str:
    """The text as a refusal quotes it."""
    quoted = repr(text)
    return quoted if len(quoted) <= SHOWN_CHARACTERS else quoted[: SHOWN_CHARACTERS - 1] + "…"
