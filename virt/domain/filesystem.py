"""Directories of the host that the guest mounts (virtiofs)."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, DeviceConfig, element, element_of, on_off, unless_empty


class VirtiofsCache(StrEnum):
    """How long the guest may believe what it has read."""

    NONE = "none"
    ALWAYS = "always"


@dataclass(frozen=True, kw_only=True)
class VirtiofsBinaryConfig(Config):
    """The daemon that serves the directory.

    <binary path="/usr/libexec/virtiofsd" xattr="on">
      <cache mode="always"/>
      <lock posix="on" flock="on"/>
    </binary>
    """

    path: str | None = None
    xattr: bool | None = None
    cache: VirtiofsCache | None = None
    lock_posix: bool | None = None
    lock_flock: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "binary",
            [
                unless_empty(element("cache", mode=self.cache)),
                unless_empty(element("lock", posix=on_off(self.lock_posix), flock=on_off(self.lock_flock))),
            ],
            path=self.path,
            xattr=on_off(self.xattr),
        )


@dataclass(frozen=True, kw_only=True)
class VirtiofsConfig(DeviceConfig):
    """A directory of the host; the guest mounts it by its tag. The guest's memory must be shared.

        <filesystem type="mount" accessmode="passthrough">
          <driver type="virtiofs" queue="1024"/>
          <binary …/>
          <source dir="/srv/share"/>
          <target dir="share"/>
        </filesystem>

    `mount -t virtiofs share /mnt`. https://libvirt.org/kbase/virtiofs.html
    """

    directory: str
    tag: str
    queue_size: int | None = None
    binary: VirtiofsBinaryConfig | None = None
    alias: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "filesystem",
            [
                element("driver", type="virtiofs", queue=self.queue_size),
                element_of(self.binary),
                element("source", dir=self.directory),
                element("target", dir=self.tag),
                unless_empty(element("alias", name=self.alias)),
            ],
            type="mount",
            accessmode="passthrough",
        )
