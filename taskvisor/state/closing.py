"""Whether the store takes requests: one that lost its records is closed until it is known again what is on the hosts.

The key `closed` says why it is closed, or that it is open by somebody's word. In a store where it is missing nobody has ever had
to decide, so it is open; and it is missing in one that was flushed. Nodes run on a closed store and answer looks: only requests
wait.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.model.ids import HostName
from taskvisor.state.codec import decode, encode
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction

if TYPE_CHECKING:
    import redis

CLOSE_FLUSHED = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


@dataclass(frozen=True, kw_only=True)
class Door:
    """What somebody decided, and when. `closed_for` None: it is open."""

    closed_for: str | None
    at: float


class Closing:
    """One store's."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._close_flushed = client.register_script(CLOSE_FLUSHED)

    def read(self) -> Door | None:
        """What was decided; None: nothing ever was, and the store is open."""
        with asking("tell whether the store takes requests"):
            text = self._client.get(self._keys.closed)
        return None if text is None else decode(str(text), Door, "the store's door")

    def reason(self) -> str | None:
        """Why the store takes no requests; None: it takes them."""
        with asking("tell whether the store takes requests"):
            text = self._client.get(self._keys.closed)
        return None if text is None else closed_for(str(text))

    def reason_at(self, host: HostName) -> str | None:
        """The same, asked by a node that takes requests, which is that host's or no host's.

        A host's node reported before it took the first: a store that knows no host at all has lost its records, or is another
        one. What somebody has opened is open.
        """
        with asking("tell whether the store takes requests"), self._client.pipeline(transaction=True) as pipe:
            pipe.get(self._keys.closed)
            pipe.exists(self._keys.hosts)
            text, known = pipe.execute()
        if text is not None:
            return closed_for(str(text))
        if known:
            return None
        return (
            f"it knows no host at all, and {host} takes requests for it: its records are lost, or none has started yet"
        )

    def close(self, reason: str, at: float) -> None:
        """The store takes no requests until it is opened."""
        self._decide(Door(closed_for=reason, at=at))

    def open(self, at: float) -> None:
        """The store takes requests, by somebody's word."""
        self._decide(Door(closed_for=None, at=at))

    def close_if_flushed(self, reason: str, at: float) -> bool:
        """Close a store that has neither instances nor operations, and of which nobody has said that it is to be open.

        True when it was this that closed it.
        """
        keys = [self._keys.closed, self._keys.instances, self._keys.unsettled]
        with asking("close a store that was flushed"):
            return bool(self._close_flushed(keys=keys, args=[encode(Door(closed_for=reason, at=at))]))

    def _decide(self, door: Door) -> None:
        with asking("open or close the store"):
            self._client.set(self._keys.closed, encode(door))


def closed_for(text: str) -> str | None:
    """Of what the key `closed` says: why the store takes no requests; None: it takes them."""
    return decode(text, Door, "the store's door").closed_for


def open_door(tx: Transaction, keys: Keys, at: float) -> None:
    """Add to a transaction: the store takes requests."""
    tx.do("SET", keys.closed, encode(Door(closed_for=None, at=at)))
