"""What anyone who can reach Redis might put on a queue, made by hypothesis: proper messages with parts of them wrong.

Bytes at random are no JSON and say nothing; what finds holes is a message of which all is right but a part or two.
"""

import base64
import json
from typing import Any

from hypothesis import strategies as st

from .conftest import message

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63, max_value=2**200)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "\x00", "\ud800", "9999-12-31T23:59:59", "2030-01-01", "-1", "probe.note", "base64", "utf-16"]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PARTS = (
    "headers",
    "properties",
    "body",
    "content-type",
    "content-encoding",
    *(
        f"headers.{name}"
        for name in (
            *("id", "task", "lang", "root_id", "parent_id", "group", "group_index", "meth", "shadow", "eta", "expires"),
            *("retries", "timelimit", "argsrepr", "kwargsrepr", "origin", "ignore_result", "stamped_headers", "stamps"),
            *("replaced_task_nesting", "compression", "delivery_info", "reply_to", "correlation_id", "hostname"),
        )
    ),
    *(
        f"properties.{name}"
        for name in ("delivery_tag", "delivery_info", "delivery_mode", "priority", "reply_to", "correlation_id")
    ),
    "properties.body_encoding",
    "properties.delivery_info.exchange",
    "properties.delivery_info.routing_key",
)
"""Each by its path; those with a dash are named as in the message."""
SIGNATURE_PARTS = ("task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size")
EMBEDDED = ("callbacks", "errbacks", "chain", "chord")


@st.composite
def signatures(draw: st.DrawFn) -> dict[str, Any]:
    """A task signature as canvases embed it, with some of its fields wrong."""
    signature: dict[str, Any] = {"task": "probe.note", "args": ["embedded"], "kwargs": {}, "options": {}}
    for part in draw(st.lists(st.sampled_from(SIGNATURE_PARTS), max_size=2)):
        signature[part] = draw(JSON)
    return signature


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """args, kwargs and embed, in base64; any of them may be wrong."""
    embed: Any = {
        name: draw(signatures() if name == "chord" else st.lists(signatures() | JSON, max_size=2))
        for name in draw(st.lists(st.sampled_from(EMBEDDED), max_size=2))
    }
    parts = [draw(st.just(["fuzz"]) | JSON), draw(st.just({}) | JSON), draw(st.just(embed) | JSON)]
    whole = draw(st.just(parts) | st.just(parts[:2]) | JSON)
    return base64.b64encode(json.dumps(whole).encode()).decode()


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message of protocol 2 of which a part or some are wrong or missing; now and then it is cut off, or noise."""
    whole = json.loads(message("fuzz"))
    if draw(st.booleans()):
        whole["body"] = draw(bodies())
    for path in draw(st.lists(st.sampled_from(PARTS), max_size=3)):
        *parents, last = path.split(".")
        holder: Any = whole
        for parent in parents:
            holder = holder.get(parent) if isinstance(holder, dict) else None
        if not isinstance(holder, dict):
            continue
        if draw(st.booleans()):
            holder[last] = draw(JSON)
        else:
            holder.pop(last, None)
    raw = json.dumps(whole).encode()
    return draw(st.just(raw) | st.just(raw[: len(raw) // 2]) | st.binary(max_size=50))
