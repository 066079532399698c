"""taskvisor/model/snapshot.py: what an image becomes, of what was asked and what its host does when nothing is."""

import pytest

from taskvisor.model.snapshot import Compression, SnapshotEncoding, encoding_for
from taskvisor.model.spec import SnapshotSpec, parse_spec, request_as_now, request_of
from taskvisor.model.states import ImageFormat

QCOW2, RAW = ImageFormat.QCOW2, ImageFormat.RAW
NONE, ZLIB, ZSTD = Compression.NONE, Compression.ZLIB, Compression.ZSTD


@pytest.mark.parametrize(
    ("asked", "host", "made"),
    [
        ((None, None), (QCOW2, ZLIB), (QCOW2, ZLIB)),
        ((None, None), (QCOW2, NONE), (QCOW2, NONE)),
        ((None, None), (RAW, ZSTD), (RAW, NONE)),
        ((RAW, None), (QCOW2, ZLIB), (RAW, NONE)),
        ((RAW, NONE), (QCOW2, ZLIB), (RAW, NONE)),
        ((QCOW2, None), (RAW, ZSTD), (QCOW2, ZSTD)),
        ((None, ZSTD), (RAW, NONE), (QCOW2, ZSTD)),
        ((None, NONE), (RAW, ZLIB), (RAW, NONE)),
        ((QCOW2, NONE), (QCOW2, ZLIB), (QCOW2, NONE)),
    ],
)
def test_what_is_asked_is_made_and_where_nothing_is_the_hosts_choice(
    asked: tuple[ImageFormat | None, Compression | None],
    host: tuple[ImageFormat, Compression],
    made: tuple[ImageFormat, Compression],
) -> None:
    default = SnapshotEncoding(format=host[0], compression=host[1])
    assert encoding_for(*asked, default) == SnapshotEncoding(format=made[0], compression=made[1])


def test_a_request_of_before_there_were_ways_is_the_same_as_one_that_names_none() -> None:
    old = {"instance": "web", "image": "gold"}
    assert request_as_now(SnapshotSpec, old) == request_of(parse_spec(SnapshotSpec, old))
