"""What a character device is connected to on the host."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import element, on_off, unless_empty, yes_no


class CharacterType(StrEnum):
    """libvirt's `type` of a character device."""

    PTY = "pty"
    FILE = "file"
    TCP = "tcp"
    UNIX = "unix"
    SPICEVMC = "spicevmc"


class EndpointMode(StrEnum):
    """Which end of a connection QEMU is."""

    BIND = "bind"  # it waits for one
    CONNECT = "connect"


class TcpProtocol(StrEnum):
    RAW = "raw"
    TELNET = "telnet"


class CharacterBackend(ABC):
    """The device's type, and the children that go with it."""

    @property
    @abstractmethod
    def type(self) -> CharacterType: ...

    def parts(self) -> Iterator[etree._Element | None]:
        """`<source>`, and `<protocol>` where there is one."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class PtyBackend(CharacterBackend):
    """A pseudo-terminal that libvirt opens.

    <serial type="pty">
    """

    @property
    def type(self) -> CharacterType:
        return CharacterType.PTY


@dataclass(frozen=True, kw_only=True)
class FileBackend(CharacterBackend):
    """A file that QEMU writes to, without a bound.

    <serial type="file">
      <source path="/var/lib/taskvisor/instances/6ba7…/console.log" append="on"/>
    """

    path: str
    append: bool | None = None

    @property
    def type(self) -> CharacterType:
        return CharacterType.FILE

    def parts(self) -> Iterator[etree._Element | None]:
        yield element("source", path=self.path, append=on_off(self.append))


@dataclass(frozen=True, kw_only=True)
class TcpBackend(CharacterBackend):
    """A TCP connection.

    <serial type="tcp">
      <source mode="bind" host="127.0.0.1" service="10000" tls="no"/>
      <protocol type="raw"/>
    """

    mode: EndpointMode
    host: str
    port: int
    protocol: TcpProtocol
    tls: bool | None = None

    @property
    def type(self) -> CharacterType:
        return CharacterType.TCP

    def parts(self) -> Iterator[etree._Element | None]:
        yield element("source", mode=self.mode, host=self.host, service=self.port, tls=yes_no(self.tls))
        yield element("protocol", type=self.protocol)


@dataclass(frozen=True, kw_only=True)
class UnixBackend(CharacterBackend):
    """A Unix socket; without a path, and so without a mode, libvirt chooses one that QEMU waits on.

    <channel type="unix">
      <source mode="bind" path="/run/taskvisor/6ba7….sock"/>
    """

    path: str | None = None
    mode: EndpointMode | None = None

    @property
    def type(self) -> CharacterType:
        return CharacterType.UNIX

    def parts(self) -> Iterator[etree._Element | None]:
        yield unless_empty(element("source", mode=self.mode, path=self.path))


@dataclass(frozen=True, kw_only=True)
class SpiceAgentBackend(CharacterBackend):
    """SPICE's own end, for its agent in the guest.

    <channel type="spicevmc">
    """

    @property
    def type(self) -> CharacterType:
        return CharacterType.SPICEVMC
