"""What is on a bridge: this module's own reading against pyroute2's."""

import errno
import socket
import struct
from typing import Any

import pytest
from pyroute2 import IPRoute

from net.links import occupants
from net.links.netlink import TAP, Link, open_netlink
from net.links.occupants import list_occupants
from taskvisor.model.errors import CannotAsk

MANY = 70  # more than one answer holds
BRIDGE = Link(index=7, name="br0", kind="bridge", alias=None, mac="", mtu=1500, master=None, up=True)


@pytest.mark.real
def test_every_port_is_listed_as_it_is_and_nothing_else(host_namespace: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        for name in ("br0", "br1"):
            ipr.link("add", ifname=name, kind="bridge")
        bridge, other = netlink.read_link("br0"), netlink.read_link("br1")
        assert bridge is not None
        assert other is not None
        assert list_occupants(bridge) == ()
        for number in range(MANY):
            ipr.link("add", ifname=f"t{number}", kind="tuntap", mode=TAP)
            index = ipr.link_lookup(ifname=f"t{number}")[0]
            on = other if number == 0 else bridge
            ipr.link("set", index=index, master=on.index, **({"ifalias": f"port {number} é"} if number % 2 else {}))
        assert {(port.index, port.name, port.alias, port.mac) for port in list_occupants(bridge)} == {
            (port.index, port.name, port.alias, port.mac) for port in netlink.list_ports(bridge)
        }
        assert [port.name for port in list_occupants(other)] == ["t0"]


@pytest.mark.parametrize("answers", [[OSError(errno.EPERM, "no")], [TimeoutError()], "error", "disturbed"])
def test_a_look_that_failed_is_never_an_empty_answer(answers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.Struct("=IHHII")
    if answers == "error":
        answers = [header.pack(20, 2, 0, 1, 0) + struct.pack("=i", -errno.EPERM)]
    elif answers == "disturbed":
        answers = [header.pack(20, 3, 0x10, 1, 0) + bytes(4)] * occupants.DUMP_TRIES

    class Kernel:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> "Kernel":
            return self

        def __exit__(self, *_: object) -> None: ...

        def settimeout(self, _: float) -> None: ...

        def sendto(self, *_: object) -> None: ...

        def recv(self, _: int) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return bytes(answer)

    monkeypatch.setattr(socket, "socket", Kernel)
    with pytest.raises(CannotAsk, match="ports of br0"):
        list_occupants(BRIDGE)
