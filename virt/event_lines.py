"""What one process tells another of guests: a line of JSON for each thing said. Both ends are ours and of one version.

Kept to the standard library: the end that speaks is a process of its own on every host, and must be small.
"""

import json

from taskvisor.model.errors import Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import Deaf, GuestEvent, Hearing, LifecycleChange, Missed, Said


def line_for(said: Said) -> bytes:
    """The line, with its end."""
    match said:
        case GuestEvent():
            told: list[str | int] = ["guest", said.instance_id, said.change.value, said.detail]
        case Hearing():
            told = ["hearing"]
        case Deaf():
            told = ["deaf", said.reason]
        case Missed():
            told = ["missed", said.events]
    return json.dumps(told).encode() + b"\n"


def parse_line(line: bytes) -> Said:
    """What the line says. Retryable when it is none of ours: who wrote it is to be ended and started again."""
    try:
        match json.loads(line):
            case ["guest", str(uuid), str(change), str(detail)]:
                return GuestEvent(instance_id=InstanceId(uuid), change=LifecycleChange(change), detail=detail)
            case ["hearing"]:
                return Hearing()
            case ["deaf", str(reason)]:
                return Deaf(reason=reason)
            case ["missed", int(events)]:
                return Missed(events=events)
    except ValueError as error:
        raise Retryable(f"the listener wrote what is no line of its own: {error}") from error
    raise Retryable(f"the listener wrote what is no line of its own: {line[:80]!r}")
