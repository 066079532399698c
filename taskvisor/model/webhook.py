"""How far the webhooks of one URL are, and what could not be delivered. URLs are shown without what may be secret in them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Of one URL. `cursor`: the last event that is dealt with; `tries`: of the next one, by now, and `reason` is why the last of
    them failed; it is tried again at `not_before`. `delivered` and `given_up`: how many events, in all.
    """

    key: str
    url: str
    cursor: str
    tries: int = 0
    not_before: float = 0.0
    reason: str = ""
    delivered: int = 0
    given_up: int = 0
    at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Undelivered:
    """What was given up: the event under this cursor, or what the stream let go before it could be read (`event` says so)."""

    url: str
    cursor: str
    event: str
    tries: int
    reason: str
    at: float
