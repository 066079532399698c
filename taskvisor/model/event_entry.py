"""An entry of the stream of events as Redis holds it: fields of text."""

from typing import NotRequired, TypedDict


class EventEntry(TypedDict):
    """One write of an operation's record, or one thing that was done to a host or noticed of it. All values are texts.

    `op`: the operation's id, or the request's that was about a host; empty: no request's. `flow`: what it does,
    `instance.build` and so on, or the task that noticed. `instance`, `name`: of whom, id and name; empty: of a host alone.
    `step`: where it is. `outcome`: how the last try of a step ended, if one just ended. `at`: seconds since the epoch. `by`,
    `reason`: who asked, and why, of what was done to a host.
    """

    op: str
    flow: str
    instance: str
    name: str
    host: str
    phase: str
    step: str
    outcome: str
    at: str
    by: NotRequired[str]
    reason: NotRequired[str]
