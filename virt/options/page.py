"""docs/guest-options.md, made of the table: `python -m virt.options.page > docs/guest-options.md`."""

from collections.abc import Iterator

from virt.options.option import Option
from virt.options.table import NOT_OFFERED, NOT_OFFERED_PREFIXES, THEMES

TITLES = {
    "cpu": "CPUs",
    "memory": "Memory",
    "boot": "Board and boot",
    "disk": "Disks",
    "nic": "NICs",
    "device": "Other devices",
    "platform": "Hosts that it may run on",
}
INTRODUCTION = """# What can be asked of a guest

Made from the code by `python -m virt.options.page`; a test fails when it is old.

A flavor's `extra_specs` and an image's properties ask for these, under Nova's names and with Nova's rules; those that Nova
lacks are marked as ours. Values are text. Where the flavor and the image say what can't both be met, the build is refused with
both. An unknown key in `hw:`, `hw_`, `quota:` or `os:` is refused, with the nearest known one; keys of other namespaces are
kept as data. Of those `trait:`, `capabilities:`, `aggregate_instance_extra_specs:`, `architecture` and `img_hv_type` say
[where a guest may go](placement.md); the others change nothing."""


def options_page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    for theme, options in THEMES.items():
        yield f"\n## {TITLES[theme]}\n"
        yield "| in the flavor | on the image | value | default | which counts | effect |"
        yield "|---|---|---|---|---|---|"
        yield from map(_row, options)
    yield "\n## Not offered\n"
    yield "Nova knows these; asking for one is refused, because it would be asked for in vain.\n"
    yield "| key | why, and what to do |"
    yield "|---|---|"
    for key, reason in {**NOT_OFFERED, **{f"{prefix}*": why for prefix, why in NOT_OFFERED_PREFIXES.items()}}.items():
        yield f"| `{key}` | {reason} |"


def _row(option: Option) -> str:
    flavor_keys = ", ".join(f"`{key}`" for key in option.flavor_keys)
    image_keys = ", ".join(f"`{key}`" for key in option.image_keys)
    cells = (flavor_keys, image_keys, option.kind.words, option.default, option.rule.words, option.effect)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(options_page(), end="")
