"""Guests with encrypted memory: an AMD SEV firmware has so many contexts, and no more such guests run at once.

How many is libvirt's maxGuests (https://libvirt.org/formatdomaincaps.html#sev-capabilities). No machine with SEV was at hand:
this is tested with what libvirt writes of one.
"""

from taskvisor.compute.resources.kind import (
    NOTHING_ASKED,
    NOTHING_OFFERED,
    Asked,
    GuestWants,
    HostHas,
    Offered,
    ResourceChoices,
)

ENCRYPTED = "encrypted_guests"
UNTOLD = 2**31 - 1
"""Of a host that can, whose libvirt is too old (before 8.0) to say how many: as Nova, no limit, and QEMU has the last word."""


class EncryptedGuests:
    """A guest whose memory is encrypted asks for one context; a host has as many as its firmware."""

    def __init__(self, choices: ResourceChoices) -> None:
        del choices

    def asked(self, guest: GuestWants) -> Asked:
        return Asked(amounts={ENCRYPTED: 1}) if guest.encrypted else NOTHING_ASKED

    def offered(self, host: HostHas) -> Offered:
        support = host.facts.support
        contexts = support.encrypted_guests
        if contexts is None and support.memory_encryption:
            contexts = UNTOLD
        return Offered(amounts={ENCRYPTED: contexts}) if contexts else NOTHING_OFFERED
