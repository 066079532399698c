"""A small Glance on loopback: the records of images, and their content with or without Range, as openstacksdk asks for them.

Source: https://docs.openstack.org/api-ref/image/v2/ (show image, download binary image data).
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class GlanceImage:
    """An image as Glance has it. `cut_after`: its content ends after so many bytes of what was announced."""

    content: bytes
    disk_format: str = "qcow2"
    container_format: str = "bare"
    status: str = "active"
    ranges: bool = True
    cut_after: int | None = None


class Glance:
    """Change `images` at will; `answer_with` is the status that all requests for images get instead."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.images: dict[str, GlanceImage] = {}
        self.answer_with: int | None = None
        self.downloads: list[int] = []
        """From which offset each."""

    def record(self, image_id: str) -> dict[str, object]:
        """What "show image" answers."""
        image = self.images[image_id]
        return {
            "id": image_id,
            "name": "debian",
            "status": image.status,
            "disk_format": image.disk_format,
            "container_format": image.container_format,
            "size": len(image.content),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(image.content).hexdigest(),
            "schema": "/v2/schemas/image",
        }

    def write_clouds(self, path: Path) -> None:
        """A clouds.yaml with one cloud, `lab`, that is this Glance and asks for no credentials."""
        cloud = {"auth_type": "none", "auth": {"endpoint": self.url}, "image_endpoint_override": f"{self.url}/v2"}
        path.write_text(json.dumps({"clouds": {"lab": cloud}}))  # JSON is YAML


@contextmanager
def running_glance() -> Iterator[Glance]:
    """On an ephemeral port of 127.0.0.1; its threads are gone when the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    glance = Glance(f"http://127.0.0.1:{http.server_address[1]}")
    http.glance = glance  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield glance
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Tests look at the answers instead."""

    def do_GET(self) -> None:
        glance: Glance = self.server.glance  # type: ignore[attr-defined]
        match = re.fullmatch(r"/v2/images/([0-9a-f-]+)(/file)?", self.path)
        if match is None:
            version = {"id": "v2.15", "status": "CURRENT", "links": [{"rel": "self", "href": f"{glance.url}/v2/"}]}
            self._send(200, json.dumps({"versions": [version]}).encode(), "application/json")
        elif glance.answer_with is not None:
            self._send(glance.answer_with, b"")
        elif match[1] not in glance.images:
            self._send(404, b"")
        elif match[2]:
            self._send_content(glance, glance.images[match[1]])
        else:
            self._send(200, json.dumps(glance.record(match[1])).encode(), "application/json")

    def _send_content(self, glance: Glance, image: GlanceImage) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        offset = int(asked[1]) if asked and image.ranges else 0
        glance.downloads.append(offset)
        if offset >= len(image.content):
            self._send(416, b"")
            return
        self._send(206 if offset else 200, image.content[offset:], cut_after=image.cut_after)

    def _send(
        self, status: int, body: bytes, kind: str = "application/octet-stream", cut_after: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut_after])
        self.close_connection = cut_after is not None
