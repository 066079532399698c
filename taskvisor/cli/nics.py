"""A NIC as it is typed: `blue,address=10.0.0.7,group=web,out=1024/2048`. Pure; what values must be, the request says."""

import re
from typing import cast

from taskvisor.cli.exits import UsageError
from taskvisor.fields import NicFields

NIC_HELP = (
    "mac=.., address=.., address6=.., group=.. (more than once; none: in no group), queues=.., pair=ADDRESS or"
    " ADDRESS@MAC (another sender that it may speak as, more than once), anti_spoofing=no, in=.. and out=.. (AVERAGE or"
    " AVERAGE/PEAK or AVERAGE/PEAK/BURST, in KiB/s and KiB)"
)
PLAIN = ("mac", "address", "address6")
DIRECTIONS = {"in": "inbound", "out": "outbound"}
KEYS = (*PLAIN, "group", "queues", "pair", "anti_spoofing", *DIRECTIONS)
REPEATED = ("group", "pair")
YES_NO = {"yes": True, "no": False}


def nic_for(text: str, option: str = "--network") -> str | NicFields:
    """The NIC: its network's name alone, or what more was typed of it. UsageError names the word that is none of `KEYS`."""
    name, *words = text.split(",")
    if not words:
        return name
    typed = _typed(words, f"{option} {text!r}")
    where = f"{option} {text!r}"
    fields: dict[str, object] = {"network": name, **{key: typed[key][0] for key in PLAIN if key in typed}}
    if "group" in typed:
        fields["security_groups"] = [] if typed["group"] == ["none"] else typed["group"]
    if "queues" in typed:
        fields["queues"] = _number(typed["queues"][0], f"{where}: queues")
    if "pair" in typed:
        fields["allowed_pairs"] = [_pair(value) for value in typed["pair"]]
    if "anti_spoofing" in typed:
        fields["anti_spoofing"] = _yes_or_no(typed["anti_spoofing"][0], f"{where}: anti_spoofing")
    limits = {DIRECTIONS[key]: _limit(typed[key][0], f"{where}: {key}") for key in DIRECTIONS if key in typed}
    return cast("NicFields", {**fields, **({"qos": limits} if limits else {})})


def _typed(words: list[str], where: str) -> dict[str, list[str]]:
    """What was said under each key."""
    typed: dict[str, list[str]] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in KEYS:
            raise UsageError(f"{where}: {key!r} is none of {', '.join(KEYS)}")
        if not value:
            raise UsageError(f"{where}: {key} must be followed by = and a value")
        if key in typed and key not in REPEATED:
            raise UsageError(f"{where}: {key} is given twice")
        typed.setdefault(key, []).append(value)
    return typed


def _pair(value: str) -> dict[str, str]:
    address, at, mac = value.partition("@")
    return {"address": address, "mac": mac} if at else {"address": address}


def _limit(value: str, where: str) -> dict[str, int]:
    """`1024/2048/512`: on average, at a peak, and how much of it at a time."""
    numbers = value.split("/")
    if len(numbers) > 3:
        raise UsageError(f"{where} must be AVERAGE, AVERAGE/PEAK or AVERAGE/PEAK/BURST, not {value}")
    kinds = ("average_kib_s", "peak_kib_s", "burst_kib")
    return {kind: _number(number, where) for kind, number in zip(kinds, numbers, strict=False)}


def _number(value: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", value):
        raise UsageError(f"{where} must be a number, not {value!r}")
    return int(value)


def _yes_or_no(value: str, where: str) -> bool:
    if value not in YES_NO:
        raise UsageError(f"{where} must be yes or no, not {value!r}")
    return YES_NO[value]
