"""The one port that a node opens: what a collector tells, over HTTP. Knows nothing of what it tells.

One request at a time, each within a limit: whoever holds the line keeps the others waiting for seconds, never for good.
Bounded so, it needs no thread per request. Any path answers, as exporters' do; `/metrics` is the one to ask for.
"""

import os
import socket
import threading
from contextlib import suppress
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import Collector

IDLE_LIMIT_S = 5.0
"""For a client to say or take something."""
REQUEST_LIMIT_S = 20.0
"""For a request from its first byte to the last of its answer; a look at a slow store takes about half of it."""


class MetricsServer:
    """Listens from the moment it is made; answers in a thread of its own until it is closed or the process ends."""

    def __init__(self, address: str, port: int, collector: Collector) -> None:
        """OSError when the port can't be had; port 0 is one that is free."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        server_class = _ServerIPv6 if ":" in address else WSGIServer
        self._server = make_server(address, port, make_wsgi_app(registry), server_class, _Handler)
        # A pool process that is forked later must not hold the port when this node has died and its next one wants it.
        os.register_at_fork(after_in_child=self._server.socket.close)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def close(self) -> None:
        """The port is free again."""
        self._server.shutdown()
        self._server.server_close()


class _ServerIPv6(WSGIServer):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = IDLE_LIMIT_S

    def handle(self) -> None:
        """Answer, or hang up. A client that went away or took too long is nothing that happened to us."""
        cut = threading.Timer(REQUEST_LIMIT_S, self._hang_up)
        cut.daemon = True
        cut.start()
        try:
            with suppress(OSError):
                super().handle()
        finally:
            cut.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError):  # it has hung up itself
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is nothing that happened."""
