"""An entry of the stream of events as Redis holds it: fields of text."""

from typing import NotRequired, TypedDict


class EventEntry(TypedDict):
    """One write of an operation's record, or one thing that was done to a host or noticed of it. All values are texts.

    `op`: the operation's id, or the request's that was about a host; empty: no request's. `flow`: what it does,
    `instance.build` and so on, or the task that noticed. `instance`, `name`: of whom, id and name; empty: of a host alone.
    `step`: where it is, the `number`th `of` so many. `tried`, `outcome`: the step whose try just ended, and how. `at`: seconds
    since the epoch. `by`, `reason`: who asked, and why, of what was done to a host. `kind`: what it is about: operation,
    instance or host.
    """

    kind: str
    op: str
    flow: str
    instance: str
    name: str
    host: str
    phase: str
    step: str
    outcome: str
    number: NotRequired[str]
    of: NotRequired[str]
    tried: NotRequired[str]
    at: str
    by: NotRequired[str]
    reason: NotRequired[str]
