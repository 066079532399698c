"""What is typed at `taskvisor launch`, made into the fields of a request. Each problem is a UsageError with one sentence."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from taskvisor.cli.exits import UsageError
from taskvisor.fields import FlavorFields, VolumeFields
from taskvisor.model.records import Flavor
from taskvisor.model.spec import USER_DATA_LIMIT_BYTES

KEY_TYPES = ("ssh-", "ecdsa-", "sk-")
KEY_FILE_LIMIT_BYTES = 1024 * 1024


def image_for(image: str) -> str:
    """A relative path becomes absolute, for the host reads it. Symbolic links stay: they may lead elsewhere on the host.

    A URL, or a registered image's name, stays as it is.
    """
    if "://" in image or "/" not in image:
        return image
    return os.path.abspath(os.path.expanduser(image))


def volume_for(text: str, option: str) -> VolumeFields:
    """SOURCE,format=…,device=…,readonly=yes,…: what a volume is asked for with. `boot` is short for boot_index."""
    source, *options = text.split(",")
    fields: dict[str, object] = {"source": source}
    for pair in options:
        key, equals, value = pair.partition("=")
        key = "boot_index" if key == "boot" else key
        if not equals or not value or key not in VolumeFields.__annotations__ or key in fields:
            raise UsageError(f"{option} {text!r}: {pair!r} is none of the volume's options, or is there twice")
        fields[key] = _volume_value(key, value, f"{option} {text!r}: {pair!r}")
    return cast("VolumeFields", fields)


def _volume_value(key: str, value: str, where: str) -> object:
    if key in ("shareable", "readonly"):
        if value not in ("yes", "no"):
            raise UsageError(f"{where}: must be yes or no")
        return value == "yes"
    if key == "boot_index" or key.endswith(("_bytes_s", "_iops")):
        if not re.fullmatch(r"-?[0-9]{1,16}", value):
            raise UsageError(f"{where}: must be a number")
        return int(value)
    return value


def pairs_for(pairs: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE, each key once. `option` is what they were typed at, for what is said when they are wrong."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {pair!r}: must be KEY=VALUE")
        if key in found:
            raise UsageError(f"{option} {key}: is given twice")
        found[key] = value
    return found


def flavor_fields_for(flavor: Flavor, extra_specs: Mapping[str, str]) -> FlavorFields:
    """The flavor spelled out, with those extra specs over its own: one that is changed for one build is asked for so."""
    return FlavorFields(
        vcpus=flavor.vcpus,
        memory_mib=flavor.memory_mib,
        disk_gib=flavor.disk_gib,
        swap_mib=flavor.swap_mib,
        ephemeral_gib=flavor.ephemeral_gib,
        extra_specs={**flavor.extra_specs, **extra_specs},
    )


def ssh_keys_for(sources: Sequence[str]) -> list[str]:
    """Public keys: each source is a key, or a file of keys as authorized_keys has them."""
    keys: list[str] = []
    for source in sources:
        if source.startswith(KEY_TYPES) and " " in source:
            keys.append(source.strip())
        else:
            keys += _keys_in(source)
    return keys


def _keys_in(source: str) -> list[str]:
    text = _read(source, "--ssh-key", KEY_FILE_LIMIT_BYTES)
    if "PRIVATE KEY-----" in text:
        raise UsageError(f"--ssh-key {source}: is a private key, which must stay here; give {source}.pub")
    lines = (line.strip() for line in text.splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"--ssh-key {source}: holds no key")
    return keys


def user_data_for(source: str) -> str:
    """The text of a file; `-` is standard input."""
    if source == "-":
        return sys.stdin.read(USER_DATA_LIMIT_BYTES + 1)
    return _read(source, "--user-data", USER_DATA_LIMIT_BYTES)


def _read(source: str, option: str, limit_bytes: int) -> str:
    try:
        with Path(source).expanduser().open("rb") as file:
            content = file.read(limit_bytes + 1)
        text = content.decode()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UsageError(f"{option} {source}: can't be read: {why}") from None
    if len(content) > limit_bytes:
        raise UsageError(f"{option} {source}: is larger than {limit_bytes} bytes")
    return text
