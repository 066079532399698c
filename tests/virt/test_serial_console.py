"""A person at a real guest's serial console: what it says is shown, what is typed reaches it, and the terminal is put back.

The guest's firmware speaks over the serial port (SeaBIOS with sgabios), so that no system need boot.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.book import Book, instance
from tests.cli.conftest import book, environment  # noqa: F401 - fixtures
from tests.cli.screens import LIMIT_S, Shown, on_screen
from tests.fixtures.hosts import Libvirtd
from tests.virt.bare_guests import bare_guest
from virt.serial_console import parse_console_alias

MENU = "<serial type='pty'/>"
BOOT = "<bios useserial='yes'/><bootmenu enable='yes' timeout='60000'/>"


def domain_xml(*ports: str) -> str:
    return f"<domain><devices>{''.join(ports)}</devices></domain>"


def port(kind: str, number: int, *, alias: bool = True) -> str:
    return f"<serial type='{kind}'>{f'<alias name={chr(34)}serial{number}{chr(34)}/>' if alias else ''}</serial>"


def test_the_first_port_that_has_a_pty_is_the_console() -> None:
    assert parse_console_alias(domain_xml(port("pty", 0), port("pty", 1))) == "serial0"
    assert parse_console_alias(domain_xml(port("file", 0), port("pty", 1))) == "serial1"
    assert parse_console_alias(domain_xml(port("file", 0))) is None
    assert parse_console_alias(domain_xml()) is None
    assert parse_console_alias(domain_xml(port("pty", 0, alias=False))) is None


@pytest.fixture
def guest(libvirtd: Libvirtd, book: Book) -> Iterator[tuple[str, dict[str, str]]]:  # noqa: F811
    """A guest in its firmware's boot menu, and who may attend it."""
    with bare_guest(libvirtd, "talks", MENU, boot=BOOT) as (uuid, _):
        book.put_instance(instance("talks", id=uuid))
        yield uuid, {"TASKVISOR_LIBVIRT_URI": libvirtd.uri}


@pytest.mark.real
def test_a_person_reads_types_and_leaves(
    guest: tuple[str, dict[str, str]],
    environment: dict[str, str],  # noqa: F811
) -> None:
    with on_screen({**environment, **guest[1]}, "console", "talks") as shown:
        shown.wait_for(lambda text: "ctrl-] leaves" in text)
        _type_until(shown, "\x1b", lambda text: "Select boot device" in text)
        shown.type("\x1d")
        assert shown.wait() == 0
        shown.wait_for(lambda text: "left the console of talks" in text)
        assert shown.settings_now() == shown.before


@pytest.mark.real
def test_a_second_is_refused_unless_it_takes_the_console(
    guest: tuple[str, dict[str, str]],
    environment: dict[str, str],  # noqa: F811
) -> None:
    here = {**environment, **guest[1]}
    with on_screen(here, "console", "talks", columns=160) as first:
        first.wait_for(lambda text: "ctrl-] leaves" in text)
        _attached(first)
        with on_screen(here, "console", "talks", columns=160) as second:
            assert second.wait() == 1
            second.wait_for(lambda text: "the console of talks is in use; --force takes it" in text)
        with on_screen(here, "console", "talks", "--force") as third:
            assert first.wait() == 0
            first.wait_for(lambda text: "somebody else took its console" in text)
            assert first.settings_now() == first.before
            third.type("\x1d")
            assert third.wait() == 0


@pytest.mark.real
def test_the_terminal_is_put_back_when_the_attendant_is_killed(
    guest: tuple[str, dict[str, str]],
    environment: dict[str, str],  # noqa: F811
) -> None:
    with on_screen({**environment, **guest[1]}, "console", "talks", columns=160) as shown:
        shown.wait_for(lambda text: "ctrl-] leaves" in text)
        _attached(shown)
        os.kill(_attendant_of(shown.process.pid), signal.SIGKILL)
        assert shown.wait() == 1
        shown.wait_for(lambda text: "the console was ended by SIGKILL; the guest is not touched by that" in text)
        assert shown.settings_now() == shown.before


@pytest.mark.real
def test_a_guest_that_goes_off_ends_it(
    libvirtd: Libvirtd,
    book: Book,  # noqa: F811
    environment: dict[str, str],  # noqa: F811
) -> None:
    with bare_guest(libvirtd, "goes", MENU, boot=BOOT) as (uuid, domain):
        book.put_instance(instance("goes", id=uuid))
        here = {**environment, "TASKVISOR_LIBVIRT_URI": libvirtd.uri}
        with on_screen(here, "console", "goes", columns=160) as shown:
            shown.wait_for(lambda text: "ctrl-] leaves" in text)
            _attached(shown)
            domain.destroy()
            assert shown.wait() == 0
            shown.wait_for(lambda text: "the console of goes has ended: the guest is off" in text)
        with on_screen(here, "console", "goes", columns=160) as shown:
            assert shown.wait() == 1
            shown.wait_for(lambda text: "goes is off; start it, or read what it said before" in text)


def _type_until(shown: Shown, keys: str, condition: object) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition(shown.text):  # type: ignore[operator]
        assert time.monotonic() < deadline, shown.text
        shown.type(keys)
        time.sleep(0.5)


def _attached(shown: Shown) -> None:
    """The terminal is raw: the stream is open."""
    deadline = time.monotonic() + LIMIT_S
    while shown.settings_now() == shown.before:
        assert time.monotonic() < deadline, shown.text
        time.sleep(0.02)


def _attendant_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (found,) = [
        int(child) for child in children if re.search("serial_console", Path(f"/proc/{child}/cmdline").read_text())
    ]
    return found
