"""How large a root disk is to be: as asked, but never smaller than the image that it is made from. Pure."""

from taskvisor.model.errors import Refused
from taskvisor.model.plan import CachedImage
from virt.space import gib, whole_gib


def root_bytes_for(base: CachedImage, asked_bytes: int) -> int:
    """The size of a root disk made from `base`; `asked_bytes` 0: as large as base. Refused when base does not fit."""
    wanted_bytes = asked_bytes or base.virtual_bytes
    if base.virtual_bytes > wanted_bytes:
        raise Refused(
            f"image {base.sha256[:12]} is a disk of {gib(base.virtual_bytes)}, and the root disk asked for has "
            f"{gib(wanted_bytes)}; choose a flavor with a disk of at least {whole_gib(base.virtual_bytes)} GiB, "
            "or of 0 (as large as the image)"
        )
    return wanted_bytes
