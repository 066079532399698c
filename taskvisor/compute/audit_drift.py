"""Guests that are not what their records make of them, told in a sentence each: of the definition, and of the disks' files.

The host has compared; whether its answer may be believed (the instance at rest in both readings) is for the caller to say.
"""

from collections.abc import Iterator

from taskvisor.model.drift import Difference, GuestDrift
from taskvisor.model.finding import Code, Finding
from taskvisor.model.records import Instance

FILES = "drift.disk-file."
TOLD = 3
"""So many differences are in the sentence; the finding has all of them."""


def drift_findings(instance: Instance, drift: GuestDrift, *, has_directory: bool) -> Iterator[Finding]:
    """At most one finding of each kind. A guest without its directory lacks its disks' files, and that is known already."""
    of_files = tuple(one for one in drift.differences if one.code.startswith(FILES))
    of_guest = tuple(one for one in drift.differences if not one.code.startswith(FILES))
    if of_guest:
        yield _finding(Code.GUEST_DRIFTED, instance, "is not as its record makes it", of_guest, drift.more)
    if of_files and has_directory:
        yield _finding(Code.DISK_DRIFTED, instance, "has disks that are not as recorded", of_files, 0)


def _finding(code: Code, instance: Instance, what: str, differences: tuple[Difference, ...], more: int) -> Finding:
    left = len(differences) - TOLD + more if len(differences) > TOLD else more
    said = "; ".join(_said(one) for one in differences[:TOLD]) + (f"; and {left} more" if left else "")
    return Finding(
        code=code,
        subject=instance.id,
        host=instance.host,
        message=f"{instance.name} {what}: {said}",
        differences=differences,
    )


def _said(one: Difference) -> str:
    if one.found is None:
        what = f"{one.recorded or 'it'} is recorded, and is not there"
    elif one.recorded is None:
        what = f"{one.found or 'it'} is there, and is not recorded"
    else:
        what = f"{one.recorded} is recorded, {one.found} is there"
    return f"{one.code} ({one.place}): {what}, {one.holds}"
