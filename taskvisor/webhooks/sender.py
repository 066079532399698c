"""The sender: a courier a URL, each in a thread of its own, over connections of its own."""

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog

from taskvisor.model.urls import shown_url
from taskvisor.state.connection import open_redis
from taskvisor.state.events import Events
from taskvisor.state.keys import Keys
from taskvisor.state.webhooks import Webhooks
from taskvisor.webhooks.courier import Courier, Patience
from taskvisor.webhooks.posting import WHOLE_TRY_TIMEOUTS, Poster

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class SenderOptions:
    """`urls`, each once; `keys` sign; `keep_s`: up to which age an event is tried again; `log_kept`: of what is given up."""

    urls: Sequence[str]
    keys: tuple[bytes, ...]
    redis_url: str
    key_prefix: str
    redis_timeout_s: float
    timeout_s: float
    keep_s: float
    log_kept: int

    @property
    def turn_s(self) -> float:
        """A turn outlasts a try, and what is written after it."""
        return (WHOLE_TRY_TIMEOUTS + 1) * self.timeout_s + 4 * self.redis_timeout_s


class Sender:
    """Runs. Any number may, on any machines: of each URL one has the turn, the others stand by."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._fallen: list[str] = []

    @property
    def fallen(self) -> Sequence[str]:
        """URLs whose courier ended by an error of ours; the log has it. Their sender is to be started anew."""
        return tuple(self._fallen)

    def start(self, courier: Courier, what: str) -> None:
        def run() -> None:
            try:
                courier.run()
            except Exception:
                log.exception("webhook_courier_fell", url=what)
                self._fallen.append(what)

        thread = threading.Thread(target=run, name=f"webhook {what}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self, limit_s: float) -> bool:
        """All have ended what was under way; False when one has not within the limit (its turn expires by itself)."""
        self.stopped.set()
        for thread in self._threads:
            thread.join(limit_s)
        return not any(thread.is_alive() for thread in self._threads)


@contextmanager
def open_sender(options: SenderOptions) -> Iterator[Sender]:
    """Couriers run for all URLs; at the end of the block they have stopped."""
    sender = Sender()
    with ExitStack() as stack:
        for url in options.urls:
            sender.start(_courier_of(url, options, sender, stack), shown_url(url))
        try:
            yield sender
        finally:
            sender.stop(options.turn_s)


def _courier_of(url: str, options: SenderOptions, sender: Sender, stack: ExitStack) -> Courier:
    client = open_redis(options.redis_url, timeout_s=options.redis_timeout_s)
    stack.callback(client.close)
    poster = Poster(url, options.keys, timeout_s=options.timeout_s)
    stack.callback(poster.close)
    keys = Keys(options.key_prefix)
    return Courier(
        url=url,
        events=Events(client, keys),
        webhooks=Webhooks(client, keys, log_kept=options.log_kept),
        poster=poster,
        patience=Patience(
            turn_s=options.turn_s, keep_s=options.keep_s, event_wait_s=min(1.0, options.redis_timeout_s / 2)
        ),
        token=str(uuid.uuid4()),
        stopped=sender.stopped,
    )
