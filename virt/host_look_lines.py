"""The first line of what `virt.host_look` says, for it and for who reads it. Knows no libvirt: a node's parent reads it."""

import msgspec


class Heading(msgspec.Struct):
    """`guests`: so many lines follow, one each. `problem`: libvirt could not be asked, and why; then nothing follows."""

    hypervisor_id: str | None = None
    guests: int = 0
    problem: str | None = None
