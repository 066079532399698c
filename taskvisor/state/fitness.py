"""Whether a Redis can be trusted with records: it must not forget them, neither for want of memory nor at a restart.

This module knows Redis's settings and what they mean for a store. It must never know who asks, or what follows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import redis

from taskvisor.state.connection import asking

OLDEST_VERSION = (6, 2)
"""The first with BLMOVE, by which workers take their messages."""


class Gravity(StrEnum):
    """What a flaw means."""

    UNUSABLE = "unusable"  # nothing works here
    VOLATILE = "volatile"  # all works, until records are gone
    NOTED = "noted"  # worth knowing


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """What is wrong, and how it is mended, in one sentence."""

    gravity: Gravity
    sentence: str


@dataclass(frozen=True, kw_only=True)
class RedisFacts:
    """What a Redis says of itself. None: it does not say. `snapshots`: it writes RDB files now and then by itself."""

    version: str | None
    maxmemory_policy: str | None
    appendonly: bool | None
    snapshots: bool | None


def read_facts(client: "redis.Redis") -> RedisFacts:
    """Asks CONFIG, and INFO where that is forbidden, as services that run Redis for others do. CannotAsk when it is silent.

    https://redis.io/docs/latest/commands/info/, https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
    """
    with asking("say how it keeps its data"):
        info = _info(client)
        appendonly, save = _config(client, "appendonly"), _config(client, "save")
        policy = _config(client, "maxmemory-policy") or info.get("maxmemory_policy")
    if appendonly is None and "aof_enabled" in info:
        appendonly = "yes" if info["aof_enabled"] != "0" else "no"
    return RedisFacts(
        version=info.get("redis_version"),
        maxmemory_policy=policy,
        appendonly=None if appendonly is None else appendonly == "yes",
        snapshots=_snapshots(save, info),
    )


def read_policy(client: "redis.Redis") -> str | None:
    """What it does when its memory is full, by INFO alone, which producers may ask; None: it does not say. CannotAsk as above."""
    with asking("say what it does when its memory is full"):
        return _info(client).get("maxmemory_policy")


def eviction_of(maxmemory_policy: str | None) -> Flaw | None:
    """What is wrong with such a Redis if it forgets what was written when its memory is full; None if not, or not told."""
    if maxmemory_policy in (None, "noeviction"):
        return None
    return Flaw(
        gravity=Gravity.VOLATILE,
        sentence=f"Redis evicts keys when its memory is full (maxmemory-policy {maxmemory_policy}), and records"
        " would vanish: set `maxmemory-policy noeviction` in its configuration",
    )


def flaws_for(facts: RedisFacts) -> tuple[Flaw, ...]:
    """Everything that is wrong with such a Redis as a store, the worst first."""
    return tuple(sorted(_flaws(facts), key=lambda flaw: list(Gravity).index(flaw.gravity)))


def _flaws(facts: RedisFacts) -> Iterator[Flaw]:
    if facts.version is not None and _number(facts.version) < OLDEST_VERSION:
        yield Flaw(
            gravity=Gravity.UNUSABLE, sentence=f"Redis is {facts.version}; 6.2 or newer is needed (BLMOVE): upgrade it"
        )
    if facts.maxmemory_policy is None:
        yield Flaw(
            gravity=Gravity.NOTED,
            sentence="Redis does not say whether it evicts keys; see to it that its maxmemory-policy is noeviction",
        )
    elif (eviction := eviction_of(facts.maxmemory_policy)) is not None:
        yield eviction
    if facts.appendonly is not True:
        yield _flaw_without_log(facts)


def _flaw_without_log(facts: RedisFacts) -> Flaw:
    """What it means that `appendonly` is off, or not told."""
    if facts.appendonly is False and facts.snapshots is False:
        return Flaw(
            gravity=Gravity.VOLATILE,
            sentence="Redis keeps nothing on disk (appendonly no, save empty), and a restart would lose every record: set"
            " `appendonly yes` in its configuration",
        )
    if facts.snapshots:
        return Flaw(
            gravity=Gravity.NOTED,
            sentence="Redis writes snapshots only (appendonly no): what was written since the last one is lost when it"
            " crashes; set `appendonly yes` in its configuration",
        )
    return Flaw(
        gravity=Gravity.NOTED,
        sentence="Redis does not say whether it keeps its data on disk; see to it that appendonly is yes",
    )


def _info(client: "redis.Redis") -> Mapping[str, str]:
    try:
        return {name: str(value) for name, value in client.info().items()}
    except redis.ResponseError:  # forbidden
        return {}


def _config(client: "redis.Redis", name: str) -> str | None:
    try:
        found = client.config_get(name).get(name)
    except redis.ResponseError:  # forbidden, or the command has another name here
        return None
    return None if found is None else str(found)


def _snapshots(save: str | None, info: Mapping[str, str]) -> bool | None:
    if save is not None:
        return bool(save.strip())
    return True if info.get("rdb_saves", "0") != "0" else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
