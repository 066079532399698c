"""Somebody's HTTP server that webhooks are sent to: it takes them, or answers, hangs and dies as a test says."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TRICKLE_LIMIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def cursor(self) -> str:
        return str(json.loads(self.body)["data"]["cursor"])

    def is_signed_by(self, key: bytes) -> bool:
        """As docs/events.md shows it."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(expected, one) for one in self.headers["webhook-signature"].split())


Answer = Callable[[Got], int]
"""The status to answer with. It may take its time, or raise to break the connection off."""


@dataclass
class Receiver:
    """`taken`: what was answered with 2xx; `got`: everything, in its order."""

    answer: Answer = lambda _: 204
    got: list[Got] = field(default_factory=list)
    taken: list[Got] = field(default_factory=list)
    location: str = "/elsewhere"
    trickles: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    _server: Any = None

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        """It listens: at the same port as before, if it did."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def hang(self, _: Got) -> int:
        """Never answers, until the test is over."""
        self.released.wait(120)
        return 204


def _handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got = Got(path=self.path, headers={name.lower(): value for name, value in self.headers.items()}, body=body)
            receiver.got.append(got)
            if receiver.trickles:
                self._trickle()
                return
            status = receiver.answer(got)
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("content-length", "0")
                if 300 <= status < 400:
                    self.send_header("location", receiver.location)
                self.end_headers()
            if 200 <= status < 300:
                receiver.taken.append(got)

        def do_GET(self) -> None:
            """What somebody sends who followed a redirect."""
            receiver.got.append(Got(path=self.path, headers={}, body=b""))
            self.send_response(204)
            self.end_headers()

        def _trickle(self) -> None:
            deadline = time.monotonic() + TRICKLE_LIMIT_S
            with suppress(OSError):
                while time.monotonic() < deadline:
                    self.wfile.write(b"H")
                    self.wfile.flush()
                    time.sleep(0.05)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def receiving(answer: Answer | None = None) -> Iterator[Receiver]:
    """A receiver that listens; stopped at the end."""
    receiver = Receiver() if answer is None else Receiver(answer=answer)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
