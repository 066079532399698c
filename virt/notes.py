"""Notes that we leave on a domain of ours, so that whoever comes after a crash knows what of its state is our doing.

A note is an empty element of a namespace of its own in the domain's metadata: libvirt keeps it across its own restarts.
One on the running domain goes with the guest when that ends; one on its definition stays until it is taken away.
https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainSetMetadata
"""

from enum import Enum

import libvirt


class Note(Enum):
    """What is noted, and on what: libvirt's flag."""

    FROZEN = ("frozen", libvirt.VIR_DOMAIN_AFFECT_LIVE)
    SUSPENDED = ("suspended", libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    @property
    def uri(self) -> str:
        """Of its namespace, in which a domain has one element at most."""
        return f"urn:taskvisor:{self.value[0]}:1"


def has_note(domain: libvirt.virDomain, note: Note) -> bool:
    """Whether the domain bears it."""
    try:
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, note.uri, note.value[1])
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return False
        raise
    return True


def ensure_note(domain: libvirt.virDomain, note: Note) -> None:
    """The domain bears it."""
    name, flag = note.value
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, f"<{name}/>", "tv", note.uri, flag)


def ensure_no_note(domain: libvirt.virDomain, note: Note) -> None:
    """The domain does not bear it."""
    if has_note(domain, note):
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, None, note.uri, note.value[1])
