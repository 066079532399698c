"""`taskvisor vnc`: a URL that is good once and for a short time, and carries a viewer to the screen and nobody else.

websockify and noVNC's pages are the real ones; the screen is a socket of this test, or (marked real) a guest's VNC server.
"""

import base64
import importlib.util
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import libvirt
import pytest

from taskvisor.cli import vnc_proxy
from taskvisor.cli.exits import UsageError
from taskvisor.cli.vnc_proxy import OneTimeToken, Screen, open_proxy
from taskvisor.settings import read_settings
from tests.cli.book import Book, instance
from tests.cli.conftest import Cli
from tests.cli.screens import LIMIT_S, on_screen
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import ROOT
from tests.virt.bare_guests import bare_guest

GREETING = b"RFB 003.008\n"


@pytest.fixture
def screen() -> Iterator[Screen]:
    """What greets as a VNC server does (RFC 6143 §7.1.1), and then says back what it is told."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(GREETING)
                while told := connection.recv(64):
                    connection.sendall(told)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Screen(address="127.0.0.1", port=server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
    thread.join(LIMIT_S)


def web_socket(port: int, path: str) -> tuple[socket.socket, bytes]:
    """A WebSocket that was asked for (RFC 6455 §4.1), and the answer's first line."""
    made = socket.create_connection(("127.0.0.1", port), LIMIT_S)
    key = base64.b64encode(os.urandom(16)).decode()
    made.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        read = made.recv(1)
        if not read:
            break
        answer += read
    return made, answer.partition(b"\r\n")[0]


def test_a_token_is_good_once(screen: Screen) -> None:
    token = OneTimeToken(screen=screen, deadline=time.monotonic() + LIMIT_S)
    assert token.lookup("other") is None
    assert token.lookup(token.token) == (screen.address, screen.port)
    assert token.lookup(token.token) is None
    assert not token.is_over()


def test_a_token_is_not_good_for_ever(screen: Screen) -> None:
    token = OneTimeToken(screen=screen, deadline=time.monotonic() - 1)
    assert token.is_over()
    assert token.lookup(token.token) is None


def test_tokens_are_long_and_never_the_same(screen: Screen) -> None:
    tokens = {OneTimeToken(screen=screen, deadline=0.0).token for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 32 for token in tokens)


def test_a_viewer_with_the_token_sees_the_screen_and_nobody_comes_after_it(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # websockify goes to the pages' directory; this process comes back
    (tmp_path / "vnc.html").write_text("noVNC")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        proxy = open_proxy(listener, screen, tmp_path, limit_s=LIMIT_S)
        seen: list[object] = []
        client = threading.Thread(target=_view, args=(port, proxy.token, seen), daemon=True)
        client.start()
        proxy.serve()  # in the main thread: it takes signals
        client.join(LIMIT_S)
    assert seen == [200, b"HTTP/1.1 405", b"HTTP/1.1 101", GREETING]
    assert proxy.was_used


def _view(port: int, token: str, seen: list[object]) -> None:
    seen.append(httpx.get(f"http://127.0.0.1:{port}/vnc.html", timeout=LIMIT_S).status_code)
    wrong, line = web_socket(port, "/websockify?token=wrong")
    wrong.close()
    seen.append(b"HTTP/1.1 405" if b" 101 " not in line else line)
    right, line = web_socket(port, f"/websockify?token={token}")
    seen.append(line[:12])
    frame = right.recv(64)
    seen.append(frame[2 : 2 + frame[1]])
    right.close()


def test_whoever_does_not_come_in_time_finds_nobody(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = open_proxy(listener, screen, tmp_path, limit_s=0.1)
        proxy.serve()
    assert not proxy.was_used


def test_without_websockify_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, screen: Screen, tmp_path: Path
) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(vnc_proxy.importlib, "import_module", absent)  # type: ignore[attr-defined]
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(UsageError, match=r"taskvisor\[vnc\]"):
        open_proxy(listener, screen, tmp_path, limit_s=1)


def test_without_pages_it_is_said_where_they_come_from(
    cli: Cli, book: Book, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    book.put_instance(instance("web-1"))
    monkeypatch.setenv("TASKVISOR_NOVNC_DIR", str(tmp_path))
    read_settings.cache_clear()
    result = cli("vnc", "web-1")
    assert result.exit_code == 2
    assert "install it (Debian: novnc), or say where it is by TASKVISOR_NOVNC_DIR" in result.stderr


@pytest.mark.real
def test_a_real_guests_screen_is_seen_by_the_url_that_is_printed(
    environment: dict[str, str], book: Book, libvirtd: Libvirtd, host_namespace: str
) -> None:
    with bare_guest(
        libvirtd, "seen", "<graphics type='vnc' listen='127.0.0.1'/><video><model type='vga'/></video>"
    ) as (
        uuid,
        _,
    ):
        book.put_instance(instance("seen", id=uuid))
        path = os.path.dirname(os.path.dirname(str(importlib.util.find_spec("websockify").origin)))  # type: ignore[union-attr]
        here = {**environment, "TASKVISOR_LIBVIRT_URI": libvirtd.uri, "PYTHONPATH": f"{ROOT}:{path}"}
        with on_screen(here, "vnc", "seen", columns=160) as shown:
            text = shown.wait_for(lambda text: "for one viewer who comes" in text)
            found = re.search(r"http://127.0.0.1:(\d+)/vnc.html#autoconnect=true&path=(\S+)", text)
            assert found is not None
            page = httpx.get(f"http://127.0.0.1:{found[1]}/vnc.html", timeout=LIMIT_S)
            assert "noVNC" in page.text
            viewer, line = web_socket(int(found[1]), f"/{unquote(found[2])}")
            assert b" 101 " in line
            assert GREETING in viewer.recv(64)
            viewer.close()
            assert shown.wait() == 0
            shown.wait_for(lambda text: "The viewer has left." in text)


@pytest.mark.real
def test_a_guest_without_a_screen_is_told_so(environment: dict[str, str], book: Book, libvirtd: Libvirtd) -> None:
    with bare_guest(libvirtd, "blind") as (uuid, domain):
        book.put_instance(instance("blind", id=uuid))
        here = {**environment, "TASKVISOR_LIBVIRT_URI": libvirtd.uri}
        with on_screen(here, "vnc", "blind", columns=160) as shown:
            assert shown.wait() in (1, 2)
            shown.wait_for(lambda text: "it has no screen" in text or "websockify is not installed" in text)
        domain.destroy()
        assert domain.state()[0] == libvirt.VIR_DOMAIN_SHUTOFF
