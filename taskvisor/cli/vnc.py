"""`taskvisor vnc NAME`: a URL under which a browser shows a guest's screen, once. On its host; from elsewhere by ssh to it.

A guest's VNC server listens on its host alone and asks for no password. So it stays there: what is opened is a port of the
loopback interface, for one viewer with a token that is good once and for a short time; ssh carries it to the machine of who asks.
"""

import signal
import socket
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from taskvisor.cli.console import require_attendable
from taskvisor.cli.exits import UsageError
from taskvisor.cli.lifecycle import Name
from taskvisor.cli.nodes import screen_of
from taskvisor.cli.processes import run_briefly
from taskvisor.cli.reach import hop_words
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import out, say
from taskvisor.cli.ssh import become_ssh
from taskvisor.cli.vnc_proxy import Screen, open_proxy, require_websockify
from taskvisor.cli.worker import ensure_directory
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.records import Instance
from taskvisor.model.screen import ScreenLook
from taskvisor.settings import Settings

LOOPBACK = "127.0.0.1"
LOOK_LIMIT_S = 60.0
PAGE = "vnc.html"
EVERYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - what is listened on, and how one gets there


def vnc(
    name: Name,
    expires: Annotated[
        int, typer.Option(min=5, max=3600, metavar="SECONDS", help="How long the URL is good for, unless it was used.")
    ] = 60,
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Of the loopback interface; else one that is free.")
    ] = None,
) -> None:
    """Show a guest's screen in a browser: prints a URL that is good once, and stays until the viewer leaves."""
    settings = settings_or_usage_error()
    with open_records(settings) as records:
        instance = records.find_instance(name)
    require_attendable(settings, instance)
    if instance.host != settings.host:
        _go_there(instance, settings, port or _free_port(), expires)
    require_websockify()
    pages = _require_pages(settings.novnc_dir)
    target = _screen_of(instance, settings)
    with _listening(port or 0) as listener:
        proxy = open_proxy(listener, target, pages, limit_s=expires)
        number = listener.getsockname()[1]
        out().print(f"http://{LOOPBACK}:{number}/{PAGE}#autoconnect=true&path=websockify%3Ftoken%3D{proxy.token}")
        say(f"The screen of {instance.name}, for one viewer who comes within {expires} s; ctrl-C closes it.")
        proxy.serve()
    say("The viewer has left." if proxy.was_used else f"Nobody came within {expires} s; the URL is good no more.")


def _go_there(instance: Instance, settings: Settings, port: int, expires_s: int) -> None:
    say(f"{instance.name} is on host {instance.host}: by ssh to it; its port {port} is this machine's too")
    words = ["vnc", instance.id, "--port", str(port), "--expires", str(expires_s)]
    become_ssh(hop_words(instance, settings, words, "-L", f"{LOOPBACK}:{port}:{LOOPBACK}:{port}"))


def _require_pages(directory: Path) -> Path:
    if not (directory / PAGE).is_file():
        raise UsageError(
            f"noVNC is not in {directory}: install it (Debian: novnc), or say where it is by TASKVISOR_NOVNC_DIR"
        )
    return directory


def _screen_of(instance: Instance, settings: Settings) -> Screen:
    ensure_directory(settings.state_dir)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        _, said = run_briefly(screen_of(settings, instance), mask, limit_s=LOOK_LIMIT_S)
        look = msgspec.json.decode(said, type=ScreenLook)
    except (TimeoutError, msgspec.MsgspecError) as error:
        raise CannotAsk(f"libvirt could not be asked for the screen of {instance.name}: {error}") from error
    if look.port is None:
        raise Refused(f"{instance.name} can't be seen: {look.problem}")
    return Screen(address=EVERYWHERE.get(settings.vnc_address, settings.vnc_address), port=look.port)


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise UsageError(f"--port {port}: {error.strerror}; choose another, or none") from None


def _free_port() -> int:
    with _listening(0) as taken:
        return int(taken.getsockname()[1])
