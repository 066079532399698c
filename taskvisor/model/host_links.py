"""What an operator says of a host's interfaces, as text, and back. Touches nothing."""

import re
from collections.abc import Mapping

PAIR = re.compile(r"(?P<network>[A-Za-z0-9][A-Za-z0-9._-]{0,63})=(?P<interface>[!-.0-9;-~]{1,15})", re.ASCII)
"""A physical network's name, and that of a link: 1 to 15 printable bytes but for `/` and `:` (the kernel's dev_valid_name)."""


def parse_physical_networks(text: str) -> Mapping[str, str]:
    """`physnet1=eth1,physnet2=bond0`: the interfaces by physical network; none for "". ValueError names the part that is wrong.

    An interface may be on one physical network only: frames of two would mix on it.
    """
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        pair = PAIR.fullmatch(part.strip())
        if pair is None or pair["interface"] in (".", ".."):
            raise ValueError(f"must be like physnet1=eth1,physnet2=bond0, interfaces of at most 15 bytes; not {part!r}")
        if pair["network"] in found or pair["interface"] in found.values():
            raise ValueError(f"must name each physical network and each interface once; {part!r} is one too many")
        found[pair["network"]] = pair["interface"]
    return found
