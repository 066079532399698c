"""The bare script that a build is held against: the same guest by hand, on the same libvirtd, image and bridge.

It remembers nothing, checks nothing, syncs nothing, owns nothing and tells nobody: what is more than this in a build is
the price of doing those. It keeps its connection to libvirt open, as a worker does.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

import libvirt
from pyroute2 import IPRoute

from taskvisor.model.ids import InstanceId
from taskvisor.model.operation import Operation
from taskvisor.model.plan import Seed
from virt.seeds.iso import iso_for

NAME_LETTERS = 13
"""Of the UUID, in the domain's name."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A guest that Taskvisor has built: what it rendered, and where all that is in it lies."""

    xml: str
    id: InstanceId
    mac: str
    tap: str
    directory: Path
    base: Path
    size_bytes: int

    @classmethod
    def of(cls, operation: Operation) -> Self:
        """From what the operation's steps have found."""
        layout = operation.facts["prepare_disk"]["layout"]
        xml = str(operation.facts["render_xml"]["xml"])
        return cls(
            xml=xml,
            id=operation.instance_id,
            mac=_between(xml, '<mac address="', '"'),
            tap=_between(xml, '<target dev="tap', '"', keep="tap"),
            directory=Path(layout["directory"]),
            base=Path(operation.facts["fetch_image"]["image"]["path"]),
            size_bytes=layout["disks"][0]["size_bytes"],
        )


@dataclass(frozen=True, kw_only=True)
class HandMade:
    """A guest made by hand, and how long each part of the work took."""

    id: str
    tap: str
    directory: Path
    parts_s: Mapping[str, float]


@dataclass
class _Clock:
    parts_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.parts_s[name] = time.perf_counter() - began


class HandBuilder:
    """Makes guests like the template, one at a time; close it."""

    def __init__(self, uri: str, template: Template) -> None:
        self._libvirt = libvirt.open(uri)
        self._template = template
        with IPRoute() as ipr:
            self._bridge = ipr.link("get", ifname=template.tap)[0].get("master")

    def close(self) -> None:
        self._libvirt.close()

    def build(self) -> HandMade:
        """A guest that libvirt says runs."""
        template, clock, new_id = self._template, _Clock(), str(uuid4())
        tap, directory = f"tap{new_id[:11]}", template.directory.with_name(new_id)
        with clock.part("qemu-img create"):
            directory.mkdir()
            (directory / "console.log").touch()
            self._make_overlay(directory / "disk")
        with clock.part("seed"):
            (directory / "disk.config").write_bytes(iso_for(_seed_for(new_id, _mac_for(new_id))))
        with clock.part("tap"):
            self._make_tap(tap)
        with clock.part("define and create"):
            domain = self._libvirt.defineXML(self._xml_for(new_id, tap))
            domain.create()
        return HandMade(id=new_id, tap=tap, directory=directory, parts_s=clock.parts_s)

    def remove(self, made: HandMade) -> None:
        """Nothing of the guest is left."""
        domain = self._libvirt.lookupByUUIDString(made.id)
        domain.destroy()
        domain.undefine()
        with IPRoute() as ipr:
            ipr.link("del", ifname=made.tap)
        for file in made.directory.iterdir():
            file.unlink()
        made.directory.rmdir()

    def _make_overlay(self, path: Path) -> None:
        base, size = str(self._template.base), str(self._template.size_bytes)
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, str(path), size],
            check=True,
            timeout=30,
        )

    def _make_tap(self, tap: str) -> None:
        with IPRoute() as ipr:
            ipr.link("add", ifname=tap, kind="tuntap", mode="tap")
            ipr.link("set", ifname=tap, master=self._bridge, state="up")

    def _xml_for(self, new_id: str, tap: str) -> str:
        template = self._template
        changes = {
            template.id: new_id,
            template.id[:NAME_LETTERS]: new_id[:NAME_LETTERS],
            template.mac: _mac_for(new_id),
            template.tap: tap,
        }
        xml = template.xml
        for old, new in changes.items():
            xml = xml.replace(old, new)
        return xml


def _mac_for(new_id: str) -> str:
    return "52:54:" + ":".join(new_id[at : at + 2] for at in (0, 2, 4, 6))


def _seed_for(new_id: str, mac: str) -> Seed:
    network = f"version: 2\nethernets: {{nic0: {{match: {{macaddress: '{mac}'}}, dhcp4: true}}}}\n"
    return Seed(
        meta_data=f"instance-id: {new_id}\nlocal-hostname: byhand\n",
        user_data="#cloud-config\n{}\n",
        network_config=network,
    )


def _between(text: str, start: str, end: str, *, keep: str = "") -> str:
    return keep + text.partition(start)[2].partition(end)[0]
