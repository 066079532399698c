"""Whose the files of a directory of snapshots are, by their names alone: `<image id>.<suffix>`. Pure."""

from collections import defaultdict
from collections.abc import Iterable

from taskvisor.model.ids import ImageId
from taskvisor.model.observed import ImageFileFacts
from virt.owned_directories import UUID

PUBLISHED = frozenset({"qcow2", "raw"})
"""What the file of a whole image is called by."""


def image_files_for(names: Iterable[str]) -> tuple[ImageFileFacts, ...]:
    """What these files are of, in the order of ids; names that bear no image's id are none of ours."""
    suffixes: dict[str, set[str]] = defaultdict(set)
    for name in names:
        image_id, _, suffix = name.partition(".")
        if UUID.fullmatch(image_id):
            suffixes[image_id].add(suffix)
    return tuple(
        ImageFileFacts(
            image_id=ImageId(image_id),
            complete="json" in suffixes[image_id] and bool(PUBLISHED & suffixes[image_id]),
        )
        for image_id in sorted(suffixes)
    )
