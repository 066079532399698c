"""One try to deliver one event to one URL by HTTP, in bounded time. Knows neither the stream nor what was tried before."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx

from taskvisor.model.event import Event, event_view
from taskvisor.webhooks.signing import signed_headers

WHOLE_TRY_TIMEOUTS = 2
"""Each wait for a server's bytes has the time-out, and a whole try so many of them: a server may send a byte now and then."""
USER_AGENT = "taskvisor-webhooks"


def body_of(event: Event) -> bytes:
    """What is sent of an event: the same bytes at each try."""
    message = {
        "type": f"{event.flow}.{event.phase}",
        "timestamp": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": event_view(event),
    }
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


class Poster:
    """Posts to one URL. Nobody is followed elsewhere, and no proxy or password of the environment is used.

    Each try has a connection of its own: one that a server has long forgotten would cost the next event a try.
    """

    def __init__(self, url: str, keys: tuple[bytes, ...], *, timeout_s: float) -> None:
        self._url = url
        self._keys = keys
        self._whole_try_s = WHOLE_TRY_TIMEOUTS * timeout_s
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout_s),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
            verify=ssl.create_default_context(),
        )

    def close(self) -> None:
        self._client.close()

    def post(self, event: Event) -> str | None:
        """None when the server took it (2xx); else why it did not, in words."""
        body = body_of(event)
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            **signed_headers(self._keys, message_id=event.cursor, at=int(time.time()), body=body),
        }
        watch = _Connection()
        try:
            with (
                watch.cut_after(self._whole_try_s),
                self._client.stream(
                    "POST", self._url, content=body, headers=headers, extensions={"trace": watch.note}
                ) as response,
            ):
                status = response.status_code
        except (httpx.HTTPError, OSError) as error:
            if watch.was_cut:
                return f"no answer within {self._whole_try_s:g} s"
            return f"{type(error).__name__}: {error}".rstrip(": ")
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return f"it answered {status}, a redirect, and none is followed: configure the URL that it leads to"
        return f"it answered {status}"


class _Connection:
    """The socket of a try, so that it can be cut: httpx bounds each wait, and not all of them together."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.was_cut = False

    def note(self, name: str, info: dict[str, Any]) -> None:
        """httpcore's trace hook (https://www.encode.io/httpcore/extensions/#trace)."""
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")

    @contextmanager
    def cut_after(self, limit_s: float) -> Iterator[None]:
        """The connection is shut down when the block takes longer: whoever waits for its bytes is woken."""
        timer = threading.Timer(limit_s, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self.was_cut = True
        if self._socket is not None:
            with suppress(OSError):  # it has ended by itself
                self._socket.shutdown(socket.SHUT_RDWR)
