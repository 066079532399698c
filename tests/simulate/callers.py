"""What many callers ask for, at random and not always sensibly."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulate.post import REQUEST, WISH, Message
from tests.support.fleet import IMAGE

NAMES = tuple(f"vm{number}" for number in range(7))
IMAGES = ("gold", "silver")
ADDRESSES = ("10.152.1.5", "10.152.1.6", "10.152.1.7")
MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03")
VOLUMES = ("rbd://volumes/one", "rbd://volumes/two", "nfs://filer/export/three.raw")
SHARED = "rbd://volumes/shared"
ASKED = {
    "instance.build": 9,
    "instance.delete": 4,
    "instance.soft_delete": 3,
    "instance.restore": 2,
    "instance.reclaim": 1,
    "instance.reboot": 3,
    "instance.stop": 3,
    "instance.start": 3,
    "instance.snapshot": 3,
    "instance.attach_volume": 3,
    "instance.detach_volume": 3,
    "instance.attach_interface": 3,
    "instance.detach_interface": 3,
    "operation.cancel": 3,
    "operation.retry": 3,
    "again": 3,
    "other": 1,
    "batch": 1,
    "image.register": 1,
    "image.delete": 2,
}
"""How often each is asked. `again`: the same id with the same request; `other`: the same id with another request."""

DELETES = ("instance.delete", "instance.reclaim")
"""After which an instance is gone. They never wait for their turn."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    task: str
    id: str
    fields: Mapping[str, Any]


class Callers:
    """Invents requests, and remembers them to ask some again."""

    def __init__(self, rng: random.Random, seed: int, hosts: tuple[str, ...]) -> None:
        self._rng = rng
        self._seed = seed
        self._hosts = hosts
        self.asked: list[Asked] = []

    def messages(self) -> tuple[Message, ...]:
        """One request, or a batch of builds."""
        kind = self._rng.choices(list(ASKED), list(ASKED.values()))[0]
        if kind == "batch":
            return tuple(self._request("instance.build") for _ in range(self._rng.randint(2, 5)))
        if kind.startswith("operation."):
            return (self._wish(kind),)
        if kind in ("again", "other") and self.asked:
            former = self._rng.choice(self.asked[-12:])
            return (self._again(former) if kind == "again" else self._request(former.task, former.id),)
        return (self._request(kind if kind.startswith(("instance.", "image.")) else "instance.build"),)

    def _wish(self, kind: str) -> Message:
        known = [asked.id for asked in self.asked[-8:]]
        subject = self._rng.choice([*known, "nobody-knows"])
        return Message(task=WISH, subject=subject, fields={"wish": kind})

    def _again(self, former: Asked) -> Message:
        return Message(task=REQUEST, subject=former.id, fields={"task": former.task, **former.fields})

    def _request(self, task: str, operation_id: str | None = None) -> Message:
        if task.startswith("image."):
            fields = self._image(task)
        else:
            fields = self._build() if task == "instance.build" else self._change(task)
        asked = Asked(task=task, id=operation_id or f"op-{self._seed}-{len(self.asked)}", fields=fields)
        self.asked.append(asked)
        return self._again(asked)

    def _build(self) -> dict[str, Any]:
        rng = self._rng
        flavor = {"vcpus": 1, "memory_mib": rng.choice((64, 64, 128)), "disk_gib": 1}
        fields: dict[str, Any] = {"name": rng.choice(NAMES), "image": IMAGE, "flavor": flavor}
        if rng.random() < 0.15:
            fields["image"] = rng.choice((*IMAGES, "nothing"))
        if rng.random() < 0.2:
            fields["networks"] = [{"network": "default", "address": rng.choice(ADDRESSES)}, "default"]
        if rng.random() < 0.1:
            fields["host"] = rng.choice(self._hosts)
        if rng.random() < 0.2:
            fields["on_failure"] = "keep"
        if rng.random() < 0.25:
            fields["volumes"] = [self._volume()]
        return fields

    def _image(self, task: str) -> dict[str, Any]:
        if task == "image.delete":
            return {"image": self._rng.choice(IMAGES)}
        return {"name": self._rng.choice(IMAGES), "source": self._rng.choice((IMAGE, f"{IMAGE}&other=1"))}

    def _volume(self) -> dict[str, Any]:
        source = self._rng.choice((*VOLUMES, SHARED))
        return {"source": source, "shareable": source == SHARED}

    def _volume_to_detach(self) -> dict[str, Any]:
        """One that somebody has asked for, if anybody has: most guesses would be of volumes that nobody has."""
        built = [
            (one.fields["name"], volume["source"]) for one in self.asked for volume in one.fields.get("volumes", ())
        ]
        attached = [
            (one.fields["instance"], one.fields["volume"]["source"])
            for one in self.asked
            if one.task == "instance.attach_volume"
        ]
        known = [*built, *attached][-6:]
        if not known:
            return {"volume": self._rng.choice((*VOLUMES, SHARED))}
        name, source = self._rng.choice(known)
        return {"instance": name, "volume": source}

    def _soft_deleted(self) -> dict[str, Any]:
        """One of which somebody has asked that, if anybody has: most guesses would be of guests that are at work."""
        known = [one.fields["instance"] for one in self.asked if one.task == "instance.soft_delete"][-3:]
        return {"instance": self._rng.choice(known)} if known else {}

    def _change(self, task: str) -> dict[str, Any]:
        rng = self._rng
        fields: dict[str, Any] = {"instance": rng.choice((*NAMES, "unknown") if rng.random() < 0.1 else NAMES)}
        if task == "instance.snapshot":
            fields["image"] = rng.choice(IMAGES)
        if task == "instance.attach_volume":
            fields["volume"] = self._volume()
        if task == "instance.detach_volume":
            fields |= self._volume_to_detach()
        if task in ("instance.restore", "instance.reclaim"):
            fields |= self._soft_deleted()
        if task == "instance.attach_interface":
            fields["interface"] = {"network": "default", "mac": rng.choice(MACS)}
        if task == "instance.detach_interface":
            fields["interface"] = rng.choice(MACS)
        if task == "instance.reboot" and rng.random() < 0.5:
            fields["type"] = "hard"
        if task not in DELETES and rng.random() < 0.3:
            fields["wait_turn_s"] = rng.choice((2, 20))
        return fields
