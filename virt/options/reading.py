"""From the texts of a flavor and an image to `GuestOptions`: known keys only, each read, each weighed by its rule."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taskvisor.model.errors import Refused
from virt.options import boot, cpu, device, disk, memory, nic, platform
from virt.options.guest import GuestOptions
from virt.options.kinds import shown
from virt.options.option import Given, Option
from virt.options.table import FLAVOR_NAMESPACES, IMAGE_NAMESPACES, NOT_OFFERED, NOT_OFFERED_PREFIXES, THEMES

MOST_KEYS = 256
NUMBER = "(?:0|[1-9][0-9]?)"
"""One spelling for each: `hw:numa_mem.00` would be a second value of node 0."""

_TOPOLOGY = ("sockets", "cores", "threads")
_FLAVOR_KEYS = tuple(key for options in THEMES.values() for option in options for key in option.flavor_keys)
_IMAGE_KEYS = tuple(key for options in THEMES.values() for option in options for key in option.image_keys)


def guest_options_for(extra_specs: Mapping[str, str], image_properties: Mapping[str, str]) -> GuestOptions:
    """What the two ask for together.

    Refused, in a sentence with the key and the value, when a key of our namespaces is not known, a text is none that its
    option takes, the two say what can't both be met, or options contradict each other.
    """
    _require_known(extra_specs, "flavor", FLAVOR_NAMESPACES, _FLAVOR_KEYS)
    _require_known(image_properties, "image", IMAGE_NAMESPACES, _IMAGE_KEYS)
    extra_specs = _without_overridden_topology(extra_specs, image_properties)
    chosen = {theme: _chosen(options, extra_specs, image_properties) for theme, options in THEMES.items()}
    options = GuestOptions(
        cpu=cpu.CpuOptions(**chosen["cpu"]),
        memory=memory.MemoryOptions(**chosen["memory"]),
        boot=boot.BootOptions(**chosen["boot"]),
        disk=disk.DiskOptions(**chosen["disk"]),
        nic=nic.NicOptions(**chosen["nic"]),
        device=device.DeviceOptions(**chosen["device"]),
        platform=platform.PlatformOptions(**chosen["platform"]),
    )
    _require_sense(options)
    return options


def require_image_properties(image_properties: Mapping[str, str]) -> None:
    """Refused for what is wrong with an image's properties whatever flavor its guests will have: unknown keys, unread texts.

    Whether they and a flavor can be met together is for `guest_options_for` to say.
    """
    _require_known(image_properties, "image", IMAGE_NAMESPACES, _IMAGE_KEYS)
    for options in THEMES.values():
        _chosen(options, {}, image_properties)
    platform.require_sense(_platform_of({}, image_properties))


def require_extra_specs(extra_specs: Mapping[str, str]) -> None:
    """Refused for what is wrong with a flavor's extra specs whatever image its guests are made from: as `guest_options_for`."""
    guest_options_for(extra_specs, {})


def _require_sense(options: GuestOptions) -> None:
    cpu.require_sense(options.cpu)
    memory.require_sense(options.memory)
    boot.require_sense(options.boot)
    disk.require_sense(options.disk)
    nic.require_sense(options.nic)
    device.require_sense(options.device)
    platform.require_sense(options.platform)


def _platform_of(specs: Mapping[str, str], properties: Mapping[str, str]) -> platform.PlatformOptions:
    return platform.PlatformOptions(**_chosen(THEMES["platform"], specs, properties))


def _require_known(texts: Mapping[str, str], where: str, namespaces: tuple[str, ...], known: tuple[str, ...]) -> None:
    if len(texts) > MOST_KEYS:
        raise Refused(f"the {where} says {len(texts)} things; at most {MOST_KEYS} are read")
    for key in sorted(texts):
        if re.sub(rf"\.{NUMBER}$", ".N", key) in known:
            continue
        reason = _reason_not_offered(key)
        if reason is not None:
            raise Refused(f"the {where} says {key}={shown(texts[key])}: {reason}")
        if key.startswith(namespaces):
            (nearest,) = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise Refused(
                f"the {where} says {shown(key)}, which is no known option of {_article(where)};"
                f" the nearest one is {nearest}; correct it or remove it"
            )


def _article(where: str) -> str:
    return "an image" if where == "image" else f"a {where}"


def _reason_not_offered(key: str) -> str | None:
    if key in NOT_OFFERED:
        return NOT_OFFERED[key]
    for prefix, reason in NOT_OFFERED_PREFIXES.items():
        if key.startswith(prefix):
            return reason
    return None


def _without_overridden_topology(specs: Mapping[str, str], properties: Mapping[str, str]) -> Mapping[str, str]:
    # Nova takes the three as one wish: half of one and half of the other would be neither's.
    if not any(f"hw_cpu_{part}" in properties for part in _TOPOLOGY):
        return specs
    return {key: text for key, text in specs.items() if key not in {f"hw:cpu_{part}" for part in _TOPOLOGY}}


def _chosen(options: Iterable[Option], specs: Mapping[str, str], properties: Mapping[str, str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    said = specs.keys() | properties.keys()
    for option in options:
        if option.numbered:
            value = _by_number(option, specs, properties)
        elif said.isdisjoint(option.keys):
            continue  # as of nearly all options of nearly all guests, and every step asks: of nothing a rule makes nothing
        else:
            value = _one(option, specs, properties)
        if value is not None:
            chosen[option.field] = value
    return chosen


def _one(option: Option, specs: Mapping[str, str], properties: Mapping[str, str]) -> object | None:
    flavor = _agreed("flavor", (_given(option, key, specs) for key in option.flavor_keys))
    image = _agreed("image", (_given(option, key, properties) for key in option.image_keys))
    return option.rule.choose(flavor, image)


def _agreed(where: str, given: Iterable[Given | None]) -> Given | None:
    found = [value for value in given if value is not None]
    if len({value.value for value in found}) > 1:
        raise Refused(f"the {where} says {found[0]} and {found[1]}, which are the same option; remove one of them")
    return found[0] if found else None


def _by_number(option: Option, specs: Mapping[str, str], properties: Mapping[str, str]) -> object | None:
    flavor, image = _numbered(option.flavor_key, specs), _numbered(option.image_key, properties)
    chosen = {
        number: option.rule.choose(
            _found(option, flavor.get(number), specs), _found(option, image.get(number), properties)
        )
        for number in sorted(flavor.keys() | image.keys())
    }
    return chosen or None


def _numbered(key: str | None, texts: Mapping[str, str]) -> dict[int, str]:
    if key is None:
        return {}
    stem = key.removesuffix("N")
    return {int(found.removeprefix(stem)): found for found in texts if re.fullmatch(re.escape(stem) + NUMBER, found)}


def _found(option: Option, key: str | None, texts: Mapping[str, str]) -> Given | None:
    return None if key is None else _given(option, key, texts)


def _given(option: Option, key: str, texts: Mapping[str, str]) -> Given | None:
    if key not in texts:
        return None
    return Given(key=key, text=texts[key], value=_read(option.kind.parse, option, key, texts[key]))


def _read(parse: Callable[[str], object], option: Option, key: str, text: str) -> object:
    try:
        return parse(text)
    except ValueError:
        raise Refused(f"{key}={shown(text)}: must be {option.kind.words}") from None
