"""What may be asked of volumes, and what is refused with which sentence."""

from typing import Any

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.spec import AttachVolumeSpec, BuildSpec, VolumeSpec, parse_spec, request_of

RBD = "rbd://volumes/v"
LEAST = {"name": "web", "image": "/images/debian.qcow2"}

BAD: tuple[tuple[Any, str], ...] = (
    ("rbd://volumes", "volume.source: 'rbd://volumes': must be rbd://POOL/IMAGE"),
    ({}, "volume.source: missing; it must be given"),
    ({"source": RBD, "size": 1}, "volume.size: unknown field; remove it or check its spelling"),
    ({"source": RBD, "format": "vmdk"}, "volume.format: 'vmdk': must be raw or qcow2"),
    ({"source": RBD, "serial": "a b"}, "volume.serial: 'a b': string should match pattern '^[A-Za-z0-9_.-]{1,36}$'"),
    ({"source": RBD, "device": "xvda"}, "volume.device: 'xvda': string should match pattern"),
    ({"source": RBD, "read_iops": 0}, "volume.read_iops: 0: input should be greater than or equal to 1"),
    ({"source": RBD, "cache": "writeback", "io": "native"}, "io=native needs cache none or directsync, not writeback"),
    ({"source": RBD, "shareable": True, "cache": "writeback"}, "shareable needs cache none or directsync"),
    ({"source": "file:///v", "shareable": True, "format": "qcow2"}, "shareable must be raw, not qcow2"),
    ({"source": RBD, "format": "qcow2"}, "what is in Ceph must be raw, not qcow2"),
    ({"source": RBD, "total_iops": 5, "read_iops": 5}, "total_iops goes with neither read_iops nor write_iops"),
    ({"source": RBD, "boot_index": 0}, "boot_index: is for volumes of a build"),
)


@pytest.mark.parametrize(("volume", "sentence"), BAD)
def test_a_wrong_volume_is_refused_with_field_value_and_rule(volume: Any, sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_spec(AttachVolumeSpec, {"instance": "web", "volume": volume})
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("volumes", "sentence"),
    [
        ([RBD, RBD], "volumes: the same source is asked for twice"),
        ([RBD, {"source": "rbd://volumes//v"}], "must be rbd://POOL/IMAGE"),
        (
            [{"source": RBD, "serial": "s"}, {"source": "rbd://volumes/w", "serial": "s"}],
            "the same serial is asked for",
        ),
        (
            [{"source": RBD, "device": "vdb"}, {"source": "rbd://volumes/w", "device": "vdb"}],
            "the same device is asked",
        ),
        (["file:///srv/v.raw"], "volumes: file:///srv/v.raw lies on one host; name that in host"),
        ([f"rbd://volumes/{number}" for number in range(17)], "list should have at most 16 items"),
    ],
)
def test_volumes_of_a_build_fit_together(volumes: Any, sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_spec(BuildSpec, {**LEAST, "volumes": volumes})
    assert sentence in str(refusal.value)


def test_a_volume_named_by_its_source_alone_is_the_same_request_as_one_spelled_out() -> None:
    alone = parse_spec(BuildSpec, {**LEAST, "volumes": [RBD]})
    spelled_out = parse_spec(BuildSpec, {**LEAST, "volumes": [{"source": RBD}]})
    assert request_of(alone) == request_of(spelled_out)
    assert alone.volumes == (VolumeSpec(source=RBD),)


def test_what_lies_on_a_host_is_taken_where_the_host_is_named() -> None:
    spec = parse_spec(BuildSpec, {**LEAST, "host": "kvm1", "volumes": ["block:///dev/disk/by-id/x"]})
    assert spec.volumes[0].is_local
