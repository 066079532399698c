"""Rules of security groups as they are typed and shown: `in,protocol=tcp,ports=80-90,remote=10.0.0.0/8`. Pure."""

import re
from collections.abc import Mapping
from typing import cast

from taskvisor.cli.exits import UsageError
from taskvisor.fields import RuleFields
from taskvisor.model.ids import SecurityGroupId
from taskvisor.model.network import Direction, IpFamily, SecurityRule

DIRECTIONS = {"in": Direction.INGRESS, "out": Direction.EGRESS}
TYPED = {direction: word for word, direction in DIRECTIONS.items()}
KEYS = {"family": "family", "protocol": "protocol", "remote": "remote", "group": "remote_group"}
"""What is typed, and the request's own word for it; `ports` and `icmp` stand for two."""


def rule_for(text: str) -> RuleFields:
    """The rule that was typed. The family follows from the remote's address where it is not said."""
    direction, *pairs = text.split(",")
    if direction not in DIRECTIONS:
        raise UsageError(f"--rule {text!r}: {direction!r}: must begin with in or out")
    fields: dict[str, object] = {"direction": DIRECTIONS[direction].value}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        found = _numbers(text, key, value) if key in ("ports", "icmp") else {KEYS.get(key, ""): value}
        if not equals or not value or "" in found or found.keys() & fields.keys():
            raise UsageError(f"--rule {text!r}: {pair!r} is none of the rule's options, or is there twice")
        fields.update(found)
    if ":" in str(fields.get("remote", "")):
        fields.setdefault("family", IpFamily.V6.value)
    return cast("RuleFields", fields)


def rule_text(rule: SecurityRule, names: Mapping[SecurityGroupId, str]) -> str:
    """The rule as it would be typed."""
    words = [TYPED[rule.direction], f"family={rule.family.value}"]
    if rule.protocol is not None:
        words.append(f"protocol={rule.protocol}")
    if rule.first_port is not None:
        last = "" if rule.last_port in (None, rule.first_port) and rule.protocol != "icmp" else f"-{rule.last_port}"
        kind = "icmp" if rule.protocol == "icmp" else "ports"
        words.append(f"{kind}={rule.first_port}{'' if rule.last_port is None else last}")
    if rule.remote is not None:
        words.append(f"remote={rule.remote}")
    if rule.remote_group is not None:
        words.append(f"group={names.get(rule.remote_group, rule.remote_group)}")
    return ",".join(words)


def _numbers(text: str, key: str, value: str) -> dict[str, object]:
    """`ports=80` or `ports=80-90`; `icmp=8` is a type, `icmp=8-0` a type and a code."""
    matched = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", value)
    if matched is None:
        raise UsageError(f"--rule {text!r}: {key}={value}: must be a number, or two with a hyphen")
    found: dict[str, object] = {"first_port": int(matched[1])}
    if matched[2] is not None:
        found["last_port"] = int(matched[2])
    return found
