"""Between a browser's WebSocket and a VNC server: websockify, for one viewer with a token. Knows nothing of instances.

websockify is an extra: a worker needs none of it. With `run_once` one process serves noVNC's files and then one WebSocket, and
ends with it, so that a token which was used can't be used again even in theory.
https://github.com/novnc/websockify
"""

import hmac
import importlib
import secrets
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskvisor.cli.exits import UsageError

TOKEN_BYTES = 24


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Where a VNC server listens."""

    address: str
    port: int


@dataclass
class OneTimeToken:
    """websockify's TokenPlugin, as far as it is asked: a token, for one look-up, until the deadline."""

    screen: Screen
    deadline: float
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    used: bool = False

    def lookup(self, token: str) -> tuple[str, int] | None:
        """The screen, for the first who shows the token in time; None for everybody else."""
        if self.used or self.is_over() or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self.used = True
        return self.screen.address, self.screen.port

    def is_over(self) -> bool:
        """Whether nobody came in time."""
        return not self.used and time.monotonic() > self.deadline


class Proxy:
    """One viewer's way to one screen. Made by `open_proxy`."""

    def __init__(self, server: Any, token: OneTimeToken) -> None:
        self._server = server
        self._token = token

    @property
    def token(self) -> str:
        return self._token.token

    @property
    def was_used(self) -> bool:
        return self._token.used

    def serve(self) -> None:
        """Until the viewer has left, nobody came in time, or ctrl-C."""
        self._server.start_server()


def require_websockify() -> None:
    """UsageError with how to install it, when it is not."""
    try:
        importlib.import_module("websockify")
    except ImportError:
        raise UsageError("websockify is not installed: pip install 'taskvisor[vnc]'") from None


def open_proxy(listener: socket.socket, screen: Screen, pages: Path, *, limit_s: float) -> Proxy:
    """A proxy that takes connections from `listener`, which stays the caller's to close."""
    require_websockify()
    websocketproxy = importlib.import_module("websockify.websocketproxy")
    token = OneTimeToken(screen=screen, deadline=time.monotonic() + limit_s)

    class Server(websocketproxy.WebSocketProxy):  # type: ignore[misc, name-defined]
        def poll(self) -> None:
            """Asked each second while nobody is connected."""
            if token.is_over():
                self.terminate()

    server = Server(listen_fd=listener.fileno(), web=str(pages), file_only=True, run_once=True, token_plugin=token)
    return Proxy(server, token)
