"""A web server on loopback that serves images the way real ones do, and the way broken ones do."""

import re
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

GATE_LIMIT_S = 30.0
SLICE_BYTES = 64 * 1024


@dataclass(kw_only=True)
class Served:
    """What a path answers. `cut_after`: each answer ends after so many bytes of its body, whatever it announced.

    `gate`: the answer stops half-way until it is set. `pause_s`: between slices of SLICE_BYTES; `sent_bytes` of the body
    have gone out.
    """

    content: bytes = b""
    status: int = 200
    etag: str | None = None
    modified_at: float | None = None
    ranges: bool = True
    cut_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    gate: threading.Event | None = None
    announce_length: bool = True
    pause_s: float = 0.0
    sent_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked, as far as tests care."""

    path: str
    offset: int | None
    if_range: str | None
    if_none_match: str | None
    status: int


class ImageServer:
    """Change `paths` at will between requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.paths: dict[str, Served] = {}
        self.requests: list[Request] = []

    def serve(self, path: str, content: bytes, **how: object) -> str:
        """The URL at which `content` now is; `how` are Served's fields."""
        self.paths[path] = Served(content=content, **how)  # type: ignore[arg-type]
        return f"{self.url}{path}"

    @property
    def transfers(self) -> list[Request]:
        """The requests that brought content."""
        return [request for request in self.requests if request.status in (200, 206)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of these tests hang up as they like."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def running_image_server(tls: ssl.SSLContext | None = None) -> Iterator[ImageServer]:
    """A server on an ephemeral port of 127.0.0.1; when the block ends, all its gates are open and its threads gone."""
    http = _Server(("127.0.0.1", 0), _Handler)
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server = ImageServer(f"{'http' if tls is None else 'https'}://127.0.0.1:{http.server_address[1]}")
    http.image_server = server  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        for served in server.paths.values():
            if served.gate is not None:
                served.gate.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Tests read `requests` instead."""

    def do_GET(self) -> None:
        server: ImageServer = self.server.image_server  # type: ignore[attr-defined]
        served = server.paths.get(urlsplit(self.path).path, Served(status=404))
        status, offset = self._answer_for(served)
        asked = _offset_in(self.headers.get("Range"))
        server.requests.append(
            Request(
                path=self.path,
                offset=asked,
                if_range=self.headers.get("If-Range"),
                if_none_match=self.headers.get("If-None-Match"),
                status=status,
            )
        )
        self._send(served, status, offset)

    def _answer_for(self, served: Served) -> tuple[int, int]:
        if served.status != 200:
            return served.status, 0
        modified = formatdate(served.modified_at, usegmt=True) if served.modified_at is not None else None
        if served.etag is not None and self.headers.get("If-None-Match") == served.etag:
            return 304, 0
        if modified is not None and self.headers.get("If-Modified-Since") == modified:
            return 304, 0
        offset = _offset_in(self.headers.get("Range"))
        if offset is None or not served.ranges:
            return 200, 0
        if self.headers.get("If-Range") not in (None, served.etag, modified):
            return 200, 0
        return (206, offset) if offset < len(served.content) else (416, 0)

    def _send(self, served: Served, status: int, offset: int) -> None:
        body = served.content[offset:] if status in (200, 206) else b""
        self.send_response(status)
        if served.etag is not None:
            self.send_header("ETag", served.etag)
        if served.modified_at is not None and status == 200:
            self.send_header("Last-Modified", formatdate(served.modified_at, usegmt=True))
        if status == 206:
            self.send_header("Content-Range", f"bytes {offset}-{len(served.content) - 1}/{len(served.content)}")
        for name, value in served.headers.items():
            self.send_header(name, value)
        if status != 304 and served.announce_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        self._send_body(served, body)

    def _send_body(self, served: Served, body: bytes) -> None:
        try:
            if served.gate is not None and body:
                half = len(body) // 2
                self.wfile.write(body[:half])
                self.wfile.flush()
                served.gate.wait(GATE_LIMIT_S)
                body = body[half:]
            if served.cut_after is not None and len(body) > served.cut_after:
                body = body[: served.cut_after]
                self.close_connection = True
            step = SLICE_BYTES if served.pause_s else max(len(body), 1)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                served.sent_bytes += len(body[start : start + step])
                time.sleep(served.pause_s)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _offset_in(header: str | None) -> int | None:
    match = re.fullmatch(r"bytes=(\d+)-", header or "")
    return int(match[1]) if match else None
