"""The way to a guest: which address, whose account, over which host; and what ssh is told."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.cli.exits import UsageError
from taskvisor.cli.reach import Way, ssh_words, way_to
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName, NetworkId, PortId
from taskvisor.model.network import NetworkKind
from tests.cli.book import Book, instance
from tests.cli.test_terminal import OnTerminal, Run, run, without_colour

__all__ = ["run"]

NAT = {NetworkId("net"): NetworkKind.NAT}
FLAT = {NetworkId("net"): NetworkKind.FLAT}


def test_a_floating_address_comes_first_and_is_reached_from_anywhere() -> None:
    bound = {PortId("port-web-1"): "192.0.2.7"}
    assert way_to(instance(), bound, NAT, "elsewhere") == Way(address="192.0.2.7")


def test_a_nat_network_is_reached_from_its_host_alone() -> None:
    assert way_to(instance(), {}, NAT, "host-1") == Way(address="10.152.0.2", only_from=HostName("host-1"))
    assert way_to(instance(), {}, FLAT, "elsewhere") == Way(address="10.152.0.2")


def test_of_several_addresses_one_that_can_be_reached_is_taken() -> None:
    (port,) = instance().ports
    outer = replace(port, id=PortId("p2"), network_id=NetworkId("flat"), address="198.51.100.2", index=1)
    two = instance(ports=(port, outer))
    assert way_to(two, {}, {**NAT, NetworkId("flat"): NetworkKind.FLAT}, "elsewhere").address == "198.51.100.2"
    assert way_to(two, {}, {**NAT, NetworkId("flat"): NetworkKind.FLAT}, "host-1").address == "10.152.0.2"


def test_without_a_nic_there_is_the_console() -> None:
    with pytest.raises(Refused, match="taskvisor console web-1"):
        way_to(instance(ports=()), {}, NAT, "host-1")


def test_who_is_elsewhere_is_told_to_jump() -> None:
    way = Way(address="10.152.0.2", only_from=HostName("host-1"))
    with pytest.raises(Refused, match="go by it: taskvisor ssh web-1 -J host-1"):
        ssh_words(instance(), way, here="laptop", user=None, jump=None)
    assert ssh_words(instance(), way, here="laptop", user="root", jump="host-1") == [
        "ssh", "-J", "host-1", "-l", "root", "10.152.0.2",
    ]  # fmt: skip


def test_the_images_account_is_taken_unless_another_is_named() -> None:
    made, way = instance(image_properties={"os_admin_user": "debian"}), Way(address="10.0.0.1")
    assert ssh_words(made, way, here="h", user=None, jump=None) == ["ssh", "-l", "debian", "10.0.0.1"]
    assert ssh_words(made, way, here="h", user="root", jump=None) == ["ssh", "-l", "root", "10.0.0.1"]


@pytest.mark.parametrize("word", ["-oProxyCommand=reboot", " "])
def test_nothing_is_taken_for_an_option_of_ssh(word: str) -> None:
    with pytest.raises(UsageError):
        ssh_words(instance(), Way(address="10.0.0.1"), here="h", user=word, jump=None)
    with pytest.raises(UsageError):
        ssh_words(instance(), Way(address="10.0.0.1"), here="h", user=None, jump=word)
    made = instance(image_properties={"os_admin_user": word})
    with pytest.raises(UsageError):
        ssh_words(made, Way(address="10.0.0.1"), here="h", user=None, jump=None)


@pytest.fixture
def fake_ssh(tmp_path: Path) -> Mapping[str, str]:
    """An ssh that says what it was told, and ends with 7."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit 7\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def _said(terminal: OnTerminal, code: int) -> str:
    assert terminal.wait() == code
    return " ".join(without_colour(terminal.text).split())


def test_this_process_becomes_ssh(run: Run, book: Book, fake_ssh: Mapping[str, str]) -> None:
    book.put_network("net")
    book.put_instance(instance("web-1"))
    terminal = run("ssh", "web-1", "-l", "me", "--", "-v", "uname", "-a", **fake_ssh)
    assert "<-l><me><10.152.0.2><-v><uname><-a>" in _said(terminal, 7)


def test_a_guest_of_another_hosts_nat_is_told_and_reached_over_it(
    run: Run, book: Book, fake_ssh: Mapping[str, str]
) -> None:
    book.put_network("net")
    book.put_instance(instance("far", host="host-2"))
    assert "taskvisor ssh far -J host-2" in _said(run("ssh", "far", **fake_ssh), 1)
    assert "<-J><host-2><10.152.0.2>" in _said(run("ssh", "far", "-J", "host-2", **fake_ssh), 7)


def test_without_ssh_it_is_said_how_to_install_it(run: Run, book: Book) -> None:
    book.put_instance(instance("web-1"))
    assert "ssh is not installed here; install it (Debian: openssh-client)" in _said(
        run("ssh", "web-1", PATH="/nonesuch"), 1
    )


def test_console_and_screen_of_another_hosts_guest_are_reached_by_ssh_to_it(
    run: Run, book: Book, fake_ssh: Mapping[str, str]
) -> None:
    made = instance("far", host="host-2")
    book.put_instance(made)
    said = _said(run("console", "far", "--force", TASKVISOR_REMOTE_TASKVISOR="/opt/tv", **fake_ssh), 7)
    assert f"<-t><host-2></opt/tv><console><{made.id}><--force>" in said
    said = _said(run("vnc", "far", "--port", "6099", **fake_ssh), 7)
    assert (
        f"<-t><-L><127.0.0.1:6099:127.0.0.1:6099><host-2><taskvisor><vnc><{made.id}><--port><6099><--expires><60>"
        in said
    )
