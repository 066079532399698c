"""What goes to Redis while something runs, by who sends it. Slows Redis down: nothing is timed meanwhile.

MONITOR (https://redis.io/docs/latest/commands/monitor/) shows each command and whether a script or a client sent it; what
a script does inside the server is no traffic. Pipelined commands are one round trip, which INFO's count of reads shows.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

END = "bench-end"
TRANSPORT = {"BLMOVE": "taken", "LPUSH": "sent", "LREM": "acknowledged"}
LIMIT_S = 30.0


@dataclass
class Traffic:
    """Commands by sender and kind, and how often the server read from any client."""

    store: Counter[str] = field(default_factory=Counter)
    transport: Counter[str] = field(default_factory=Counter)
    events: int = 0
    other: Counter[str] = field(default_factory=Counter)
    round_trips: int = 0

    def add(self, words: list[str], key_prefix: str) -> None:
        """Count one command. Idle readers ask once a second; what they ask in vain is not told from the rest."""
        name = words[0].upper()
        if name in TRANSPORT:
            self.transport[TRANSPORT[name]] += 1
        elif name == "PUBLISH":
            self.events += 1
        elif name == "EVALSHA" or any(word.startswith(key_prefix) for word in words[1:2]):
            self.store["transactions and looks (scripts)" if name == "EVALSHA" else "plain reads"] += 1
        else:
            self.other[name] += 1


@contextmanager
def watched_traffic(client: "redis.Redis", key_prefix: str) -> Iterator[Traffic]:
    """The traffic of the block; complete when the block has ended."""
    traffic = Traffic()
    ready = threading.Event()
    listener = threading.Thread(target=_listen, args=(client, key_prefix, traffic, ready), daemon=True)
    listener.start()
    ready.wait(LIMIT_S)
    reads_before = _reads(client)
    yield traffic
    traffic.round_trips = _reads(client) - reads_before - 1
    client.echo(END)
    listener.join(LIMIT_S)


def _reads(client: "redis.Redis") -> int:
    return int(client.info("stats")["total_reads_processed"])


def _listen(client: "redis.Redis", key_prefix: str, traffic: Traffic, ready: threading.Event) -> None:
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]
        ready.set()
        while True:
            seen: dict[str, Any] = monitor.next_command()
            if seen["client_type"] == "lua":
                continue
            words = seen["command"].split(" ", 2)
            if END in words:
                return
            traffic.add(words, key_prefix)
