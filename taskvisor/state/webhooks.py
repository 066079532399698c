"""Where the sender of webhooks is in the stream, for each URL; whose turn the URL is; and what was given up.

One sender at a time has the turn of a URL, by a key that expires when its holder dies. Each write says whose turn the writer
thinks that it is, and is refused when it is another's: a sender that was held up moves no cursor that others have moved on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskvisor.model.webhook import Standing, Undelivered
from taskvisor.state.codec import OnUnreadable, decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

TAKE_SCRIPT = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
GIVE_BACK_SCRIPT = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
WRITE_SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if ARGV[4] ~= '' then
  redis.call('LPUSH', KEYS[3], ARGV[4])
  redis.call('LTRIM', KEYS[3], 0, ARGV[5] - 1)
end
return 1
"""
"""The turn is the writer's, the standing of its URL is this, and what was given up is in the log: all of it or nothing."""


class Webhooks:
    def __init__(
        self, client: "redis.Redis", keys: Keys, *, log_kept: int, on_unreadable: OnUnreadable = log_unreadable
    ) -> None:
        self._client = client
        self._keys = keys
        self._log_kept = log_kept
        self._on_unreadable = on_unreadable
        self._take = client.register_script(TAKE_SCRIPT)
        self._give_back = client.register_script(GIVE_BACK_SCRIPT)
        self._write = client.register_script(WRITE_SCRIPT)

    def take_turn(self, key: str, token: str, *, keep_s: float) -> bool:
        """The turn of the URL is the token's for `keep_s` from now, unless it is another's."""
        with asking("take the turn of a webhook"):
            return bool(self._take(keys=[self._keys.webhook_turn(key)], args=[token, int(keep_s * 1000)]))

    def give_back_turn(self, key: str, token: str) -> None:
        """The turn is nobody's, if it was still the token's."""
        with asking("give back the turn of a webhook"):
            self._give_back(keys=[self._keys.webhook_turn(key)], args=[token])

    def read(self, key: str) -> Standing | None:
        """Where the URL is; None for one that is new, or whose standing can't be read: it begins anew."""
        with asking("read how far a webhook is"):
            found = self._client.hget(self._keys.webhooks, key)
        return next(decode_each([(f"standing of webhook {key}", found)], Standing, self._on_unreadable), None)

    def write(self, standing: Standing, token: str, *, undelivered: Undelivered | None = None) -> bool:
        """The standing is this, and what was given up is in the log; False, and nothing done, when another has the turn."""
        keys = [self._keys.webhook_turn(standing.key), self._keys.webhooks, self._keys.webhook_log]
        entry = "" if undelivered is None else encode(undelivered)
        with asking("write how far a webhook is"):
            return bool(
                self._write(keys=keys, args=[token, standing.key, encode(standing), entry, str(self._log_kept)])
            )

    def list_standings(self) -> Sequence[Standing]:
        """Of every URL that was ever sent to, by URL."""
        with asking("list how far webhooks are"):
            found = self._client.hgetall(self._keys.webhooks)
        named = ((f"standing of webhook {key!s}", text) for key, text in found.items())
        return sorted(decode_each(named, Standing, self._on_unreadable), key=lambda one: one.url)

    def forget(self, key: str) -> None:
        """Nothing is known of the URL: should it be configured again, it begins with what is new then."""
        with asking("forget a webhook"):
            self._client.hdel(self._keys.webhooks, key)

    def list_undelivered(self, limit: int) -> Sequence[Undelivered]:
        """What was given up last, the newest first."""
        with asking("read the log of webhooks"):
            found = self._client.lrange(self._keys.webhook_log, 0, limit - 1)
        return list(
            decode_each((("entry of the log of webhooks", text) for text in found), Undelivered, self._on_unreadable)
        )
