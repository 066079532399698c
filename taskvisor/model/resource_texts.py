"""How an operator writes ratios, reserves and PCI devices down. Parsing and nothing else; ValueError says what it should be."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Final

RATIO_LIMIT: Final = 64.0
RESERVE_LIMIT: Final = 2**53 - 1
_NAME: Final = re.compile(r"[A-Za-z0-9_.@:-]{1,64}")
_ADDRESS: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_IDS: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def parse_ratios(text: str) -> Mapping[str, float]:
    """Like gpu=2,pages_2048@0=0.5: how often each amount may be promised."""
    ratios = {name: float(value) if _is_number(value) else math.nan for name, value in _pairs(text)}
    for name, ratio in ratios.items():
        if not 0 < ratio <= RATIO_LIMIT:
            raise ValueError(f"the ratio of {name} must be more than 0 and at most {RATIO_LIMIT:.0f}")
    return ratios


def parse_reserved(text: str) -> Mapping[str, int]:
    """Like gpu=1,pages_2048@0=64: how much of each amount is kept back."""
    reserved = {name: int(value) if value.isdecimal() else -1 for name, value in _pairs(text)}
    for name, amount in reserved.items():
        if not 0 <= amount <= RESERVE_LIMIT:
            raise ValueError(f"what is reserved of {name} must be a whole number, 0 or more")
    return reserved


def parse_pci_devices(text: str) -> tuple[str, ...]:
    """Like 8086:10fb,0000:3b:00.0: devices by vendor and product, or by address."""
    devices = tuple(filter(None, text.lower().replace(" ", "").split(",")))
    for device in devices:
        if not _IDS.fullmatch(device) and not _ADDRESS.fullmatch(device):
            raise ValueError(f"{device!r} is neither vendor:product, like 8086:10fb, nor an address, like 0000:3b:00.0")
    return devices


def parse_pci_aliases(text: str) -> Mapping[str, str]:
    """Like gpu=10de:1db4,nic=8086:10fb: what flavors call devices of a vendor and product."""
    aliases = {name: value.lower() for name, value in _pairs(text)}
    for name, ids in aliases.items():
        if not _ALIAS.fullmatch(name) or not _IDS.fullmatch(ids):
            raise ValueError(f"{name}={ids}: must be a name and vendor:product, like gpu=10de:1db4")
    return aliases


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        name, equals, value = part.partition("=")
        if not equals or not _NAME.fullmatch(name) or name in seen:
            raise ValueError(f"{part!r} must be NAME=VALUE, each name once, with commas between them")
        seen.add(name)
        yield name, value


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) is not None
