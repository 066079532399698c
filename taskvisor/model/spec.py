"""The door: what callers may ask, validated. Frozen after; nothing behind the door checks these things again.

The argument of every entry task is one of these models, as plain JSON kwargs. An unknown field is an error.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from taskvisor.model.errors import Refused
from taskvisor.model.nic_spec import GROUPS_LIMIT, PAIRS_LIMIT, QUEUES_LIMIT, AddressPairSpec, Ipv6, QosSpec
from taskvisor.model.operation import Facts
from taskvisor.model.plan import DiskBus
from taskvisor.model.snapshot import SNAPSHOT_FORMATS, Compression, Quiesce, SnapshotMethod
from taskvisor.model.states import ImageFormat, OnFailure, RebootType, SeedKind
from taskvisor.model.tuning import VolumeCache, VolumeDiscard, VolumeIo
from taskvisor.model.volume import parse_volume_source, volume_serial_for

NAME_RULE = "1 to 63 letters, digits, dots or hyphens, beginning and ending with a letter or digit"
NAME_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?"
MAC_PATTERN = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"
LABEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}(=[A-Za-z0-9._-]{0,63})?"
"""KEY, or KEY=VALUE."""
USER_DATA_LIMIT_BYTES = 65_535
"""Nova's limit of user data, before base64."""

SSH_KEYS_LIMIT_BYTES = 131_072
"""Of all keys together: a guest is told them more than once, and all that it is told is one small disk."""

NEVER_QUOTED = frozenset({"user_data"})
"""What is wrong with these is told without showing them: they may hold secrets, and errors are logged."""

SHOWN_LIMIT = 80
"""Of what a caller sent, so much is shown to him again."""


def _named(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"must be {NAME_RULE}")
    return name


def _unicast_mac(mac: str) -> str:
    mac = mac.lower()
    if not re.fullmatch(MAC_PATTERN, mac):
        raise ValueError("must be six pairs of hexadecimal digits with colons, like 52:54:00:12:34:56")
    if int(mac[:2], 16) & 1:
        raise ValueError("must be a unicast address: the first octet is even")
    return mac


def _ssh_key(key: str) -> str:
    key = key.strip()
    if "\n" in key or not re.fullmatch(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?", key):
        raise ValueError("must be one public key in OpenSSH's format, like 'ssh-ed25519 AAAA… comment'")
    return key


def _user_data(text: str) -> str:
    size = len(text.encode())
    if size > USER_DATA_LIMIT_BYTES:
        raise ValueError(f"is {size} bytes; at most {USER_DATA_LIMIT_BYTES} are allowed")
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("must be a SHA-256: 64 hexadecimal digits in lower case, as `sha256sum` writes it")
    return text


def _snapshot_format(kind: ImageFormat | None) -> ImageFormat | None:
    if kind is not None and kind not in SNAPSHOT_FORMATS:
        raise ValueError("must be qcow2 or raw")
    return kind


def _few_enough(keys: tuple[str, ...]) -> tuple[str, ...]:
    size = sum(len(key.encode()) for key in keys)
    if size > SSH_KEYS_LIMIT_BYTES:
        raise ValueError(f"are {size} bytes together; at most {SSH_KEYS_LIMIT_BYTES} are allowed")
    return keys


def _ipv4(address: str) -> str:
    octets = address.split(".")
    if len(octets) != 4 or not all(octet.isascii() and octet.isdigit() and int(octet) < 256 for octet in octets):
        raise ValueError("must be an IPv4 address, like 10.152.0.7")
    return ".".join(str(int(octet)) for octet in octets)


def _volume_source(text: str) -> str:
    return parse_volume_source(text).url


def _volume_format(kind: ImageFormat) -> ImageFormat:
    if kind not in (ImageFormat.RAW, ImageFormat.QCOW2):
        raise ValueError("must be raw or qcow2")
    return kind


def shown_as(pattern: str) -> Any:
    """What the published schema (docs/schema) says of a text that a function judges: never narrower than that function."""
    return Field(json_schema_extra={"pattern": pattern})


Name = Annotated[str, AfterValidator(_named), shown_as(f"^{NAME_PATTERN}$")]
Mac = Annotated[str, AfterValidator(_unicast_mac), shown_as("^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$")]
SshKey = Annotated[str, Field(max_length=16_384), AfterValidator(_ssh_key)]
Ipv4 = Annotated[str, AfterValidator(_ipv4), shown_as(r"^[0-9]+(\.[0-9]+){3}$")]
Sha256 = Annotated[str, AfterValidator(_sha256), shown_as("^[0-9a-f]{64}$")]
Label = Annotated[str, StringConstraints(pattern=rf"^{LABEL_PATTERN}$")]
MetadataKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 _.:-]{1,255}$")]
OptionKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,255}$")]
OptionValue = Annotated[str, StringConstraints(max_length=2047, pattern=r"^[^\x00-\x1f\x7f]*$")]
MetadataValue = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$")]


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FlavorSpec(Spec):
    """A size, spelled out. Units in the names."""

    vcpus: Annotated[int, Field(ge=1, le=256)]
    memory_mib: Annotated[int, Field(ge=16, le=16 * 1024 * 1024)]
    disk_gib: Annotated[int, Field(ge=0, le=64 * 1024)] = 0
    swap_mib: Annotated[int, Field(ge=0, le=1024 * 1024)] = 0
    ephemeral_gib: Annotated[int, Field(ge=0, le=64 * 1024)] = 0
    extra_specs: Annotated[dict[OptionKey, OptionValue], Field(max_length=128)] = {}
    """What more a guest of that size has, under Nova's names (docs/guest-options.md)."""


class NicSpec(Spec):
    """One NIC: on which network, and if it matters with which addresses, in which groups, how fast. `queues` 0: by its CPUs."""

    network: Name
    mac: Mac | None = None
    address: Ipv4 | None = None
    address6: Ipv6 | None = None
    security_groups: Annotated[tuple[Name, ...] | None, Field(max_length=GROUPS_LIMIT, strict=False)] = None
    """None: `default`, where the network is of a kind whose ports are filtered."""
    allowed_pairs: Annotated[tuple[AddressPairSpec, ...], Field(max_length=PAIRS_LIMIT, strict=False)] = ()
    anti_spoofing: bool = True
    qos: QosSpec | None = None
    queues: Annotated[int, Field(ge=0, le=QUEUES_LIMIT)] = 1


VolumeUrl = Annotated[str, Field(max_length=4096), AfterValidator(_volume_source)]
Serial = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,36}$")]
PerSecond = Annotated[int, Field(ge=1, le=1 << 50)]


class VolumeSpec(Spec):
    """A volume: where it is, and how the guest is to see it.

    `source` is a URL: file:///srv/v.qcow2, block:///dev/disk/by-id/x, nfs://server/export/file,
    iscsi://ADDRESS[:PORT]/TARGET/LUN, rbd://pool/image. `format` is declared and never guessed: what a guest wrote decides
    nothing. `serial`: of it virtio shows 20 characters.
    """

    source: VolumeUrl
    format: Annotated[ImageFormat, Field(strict=False), AfterValidator(_volume_format)] = ImageFormat.RAW
    serial: Serial | None = None
    device: Annotated[str, StringConstraints(pattern=r"^(/dev/)?[vsh]d[a-z]{1,2}$")] | None = None
    bus: Annotated[DiskBus | None, Field(strict=False)] = None
    boot_index: Annotated[int, Field(ge=-1, le=64)] | None = None
    shareable: bool = False
    """Others may have it too, if they say so as well. The guests must know how to share it: a cluster's file system does."""
    readonly: bool = False
    cache: Annotated[VolumeCache | None, Field(strict=False)] = None
    io: Annotated[VolumeIo | None, Field(strict=False)] = None
    discard: Annotated[VolumeDiscard | None, Field(strict=False)] = None
    total_bytes_s: PerSecond | None = None
    read_bytes_s: PerSecond | None = None
    write_bytes_s: PerSecond | None = None
    total_iops: PerSecond | None = None
    read_iops: PerSecond | None = None
    write_iops: PerSecond | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "VolumeSpec":
        if self.io is VolumeIo.NATIVE and self.cache not in (None, VolumeCache.NONE, VolumeCache.DIRECTSYNC):
            raise ValueError(f"io=native needs cache none or directsync, not {self.cache}")
        if self.shareable and self.cache not in (None, VolumeCache.NONE, VolumeCache.DIRECTSYNC):
            raise ValueError(
                f"shareable needs cache none or directsync, not {self.cache}: other hosts see nothing of a cache"
            )
        if self.format is not ImageFormat.RAW and (self.shareable or self.source.startswith("rbd:")):
            what = "shareable" if self.shareable else "what is in Ceph"
            raise ValueError(f"{what} must be raw, not {self.format}: its metadata are one guest's")
        for kind in ("bytes_s", "iops"):
            parts = getattr(self, f"read_{kind}"), getattr(self, f"write_{kind}")
            if getattr(self, f"total_{kind}") is not None and any(parts):
                raise ValueError(f"total_{kind} goes with neither read_{kind} nor write_{kind}")
        return self

    @property
    def is_local(self) -> bool:
        """It lies on one host."""
        return parse_volume_source(self.source).scheme.is_local

    @property
    def known_serial(self) -> str:
        """The serial asked for, else the one that follows from the source."""
        return self.serial or volume_serial_for(self.source)


def _spelled_out(volume: object) -> object:
    return {"source": volume} if isinstance(volume, str) else volume


Volume = Annotated[VolumeSpec, BeforeValidator(_spelled_out, json_schema_input_type=VolumeUrl | VolumeSpec)]
"""A volume, or its source alone."""


class BuildSpec(Spec):
    """What `instance.build` makes.

    `image` is a path, a URL (file, http(s), glance, an object store's), or a registered image's name.
    """

    name: Name
    image: Annotated[str, Field(min_length=1, max_length=4096)]
    image_sha256: Sha256 | None = None
    image_format: Annotated[ImageFormat | None, Field(strict=False)] = None
    """What an image given by path or URL must be; None: what it is found to be. A registered image has its own."""
    image_properties: Annotated[dict[OptionKey, OptionValue], Field(max_length=128)] = {}
    """What guests of an image given by path or URL need, under Nova's names; a registered image has its own."""
    flavor: Annotated[str, Field(max_length=255)] | FlavorSpec = "m1.tiny"
    networks: Annotated[tuple[Name | NicSpec, ...], Field(max_length=8, strict=False)] = ("default",)
    ssh_keys: Annotated[tuple[SshKey, ...], Field(max_length=64, strict=False), AfterValidator(_few_enough)] = ()
    user_data: Annotated[str, AfterValidator(_user_data)] | None = None
    config_drive: Annotated[SeedKind | None, Field(strict=False)] = None
    """How the guest's cloud-init is told all this; None: as the image needs it, else as the operator chose."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=128)] = {}
    host: Name | None = None
    """Only this host will do."""
    project: Name = "default"
    """Whose it is: which flavors it may have, and where it may lie."""
    on_failure: Annotated[OnFailure, Field(strict=False)] = OnFailure.ROLLBACK
    """`keep`: a build that fails leaves what it had done, so that `operation.retry` goes on from the step that failed."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16, strict=False)] = ()
    """What lies on one host only (file, block) needs `host`."""
    availability_zone: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")] | None = None
    """Only hosts of this zone will do."""
    server_group: Name | None = None
    """Whose member it is: a server group's name or id."""
    require_labels: Annotated[tuple[Label, ...], Field(max_length=32, strict=False)] = ()
    """KEY or KEY=VALUE: only hosts that bear all of these will do."""
    forbid_labels: Annotated[tuple[Label, ...], Field(max_length=32, strict=False)] = ()
    """No host that bears one of these will do."""

    @model_validator(mode="after")
    def _addresses_differ(self) -> "BuildSpec":
        for field in ("mac", "address", "address6"):
            given = [getattr(nic, field) for nic in self.nics if getattr(nic, field)]
            if len(set(given)) != len(given):
                raise ValueError(f"networks: the same {field} is asked for twice")
        return self

    @model_validator(mode="after")
    def _volumes_differ(self) -> "BuildSpec":
        for field in ("source", "known_serial", "device"):
            given = [getattr(volume, field) for volume in self.volumes if getattr(volume, field)]
            if len(set(given)) != len(given):
                raise ValueError(f"volumes: the same {field.removeprefix('known_')} is asked for twice")
        local = next((volume.source for volume in self.volumes if volume.is_local), None)
        if local is not None and self.host is None:
            raise ValueError(f"volumes: {local} lies on one host; name that in host")
        return self

    @property
    def nics(self) -> tuple[NicSpec, ...]:
        """The NICs, each spelled out."""
        return tuple(nic if isinstance(nic, NicSpec) else NicSpec(network=nic) for nic in self.networks)


class InstanceSpec(Spec):
    """Which instance: its name or its id."""

    instance: Annotated[str, Field(min_length=1, max_length=63)]


class TurnSpec(InstanceSpec):
    """An operation that may have to wait until another has let go of the instance."""

    wait_turn_s: Annotated[int, Field(ge=0, le=3600)] = 0
    """How long it waits while another operation holds the instance; 0: it is refused at once, with the holder's name."""


class StopSpec(TurnSpec):
    timeout_s: Annotated[int, Field(ge=0, le=3600)] | None = None
    """How long the guest may take; 0 switches it off at once; None: the host's setting."""


class RebootSpec(TurnSpec):
    type: Annotated[RebootType, Field(strict=False)] = RebootType.SOFT


class SnapshotSpec(TurnSpec):
    image: Name
    """The name of the image to register."""
    method: Annotated[SnapshotMethod, Field(strict=False)] = SnapshotMethod.AUTO
    """What becomes of a guest that runs: it goes on (live), or its memory is saved while its disk is copied (cold)."""
    quiesce: Annotated[Quiesce, Field(strict=False)] = Quiesce.AUTO
    """Whether its agent freezes its file systems at the moment of a live copy."""
    format: Annotated[ImageFormat | None, Field(strict=False), AfterValidator(_snapshot_format)] = None
    """qcow2 or raw; None: the host's setting."""
    compression: Annotated[Compression | None, Field(strict=False)] = None
    """Of a qcow2 image; None: the host's setting."""

    @model_validator(mode="after")
    def _can_be(self) -> "SnapshotSpec":
        if self.format is ImageFormat.RAW and self.compression not in (None, Compression.NONE):
            raise ValueError(f"compression: a raw image has none; leave out {self.compression}, or ask for qcow2")
        if self.method is SnapshotMethod.COLD and self.quiesce is Quiesce.REQUIRED:
            raise ValueError("quiesce: only a live copy is quiesced; leave out the method, or the wish to quiesce")
        return self


class ImageSpec(Spec):
    """What `image.register` puts under a name. `source` is a path or a URL as a build's `image`: not another image's name."""

    name: Name
    source: Annotated[str, Field(min_length=1, max_length=4096)]
    sha256: Sha256 | None = None
    format: Annotated[ImageFormat | None, Field(strict=False)] = None
    """What it must be; None: what it is found to be."""
    min_disk_gib: Annotated[int, Field(ge=0, le=64 * 1024)] = 0
    min_memory_mib: Annotated[int, Field(ge=0, le=16 * 1024 * 1024)] = 0
    properties: Annotated[dict[OptionKey, OptionValue], Field(max_length=128)] = {}
    """What its guests need, under Nova's names (docs/guest-options.md)."""


class ImageRefSpec(Spec):
    """Which registered image: its name or its id."""

    image: Annotated[str, Field(min_length=1, max_length=63)]


class AttachVolumeSpec(TurnSpec):
    volume: Volume

    @model_validator(mode="after")
    def _boots_nothing(self) -> "AttachVolumeSpec":
        if self.volume.boot_index not in (None, -1):
            raise ValueError("volume: boot_index: is for volumes of a build; an instance keeps what it boots from")
        return self


class DetachVolumeSpec(TurnSpec):
    volume: Annotated[str, Field(min_length=1, max_length=4096)]
    """Its source, or its serial."""


class OperationSpec(Spec):
    """Which operation: its id, or a prefix of it that fits one only. An id may be one character long, so may this."""

    operation: Annotated[str, Field(min_length=1, max_length=128)]


S = TypeVar("S", bound=Spec)


def parse_spec(kind: type[S], fields: dict[str, Any]) -> S:
    """The validated spec. Refused with one sentence: field, value, rule (the first that is broken)."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise Refused(_first_rule_broken(error)) from None


def request_of(spec: Spec) -> Facts:
    """What is asked, as JSON: without how long its caller would wait for its turn, which does not make it another request."""
    return spec.model_dump(mode="json", exclude={"wait_turn_s"})


def request_as_now(kind: type[Spec], request: Facts) -> Facts:
    """A recorded request as this version writes it: the one that recorded it may have known fewer fields."""
    try:
        return request_of(parse_spec(kind, dict(request)))
    except Refused:
        return request  # by the rules of another version


def _first_rule_broken(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    about_first = [problem for problem in problems if problem["loc"][:1] == problems[0]["loc"][:1]]
    problem = max(about_first, key=lambda problem: len(problem["loc"]))  # of a choice, the one that came furthest
    *above, last = map(str, problem["loc"] or ("",))
    if (
        problem["type"] == "extra_forbidden"
    ):  # its name is the caller's, and may be any text: JavaScript says imageFormat
        return f"{_cut('.'.join((*_fields_of(above), last)))}: unknown field; remove it or check its spelling"
    where = ".".join(_fields_of((*above, last)))
    if problem["type"] == "missing":
        return f"{where}: missing; it must be given"
    rule = problem["msg"].removeprefix("Value error, ")
    rule = (rule[0].lower() + rule[1:]).replace("tuple", "list")  # callers write JSON
    if where in NEVER_QUOTED:
        return f"{where}: {rule}"
    return f"{where}: {_cut(repr(problem['input']))}: {rule}" if where else rule


def _fields_of(path: Iterable[str]) -> list[str]:
    """Without what pydantic says between them, such as the name of the choice that it tried."""
    return [part for part in path if re.fullmatch(r"[a-z0-9_]+", part)]


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_LIMIT else text[: SHOWN_LIMIT - 1] + "…"
