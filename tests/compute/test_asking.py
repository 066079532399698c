"""From what a build asks to what is to be placed."""

from collections.abc import Mapping
from typing import Any

import pytest

from taskvisor.compute.placement import Ask, ask_for
from taskvisor.compute.resources.table import resources_for
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.records import Flavor, Resources
from taskvisor.model.spec import BuildSpec
from taskvisor.model.states import VirtType
from tests.support.records import image

SPEC = BuildSpec(name="web", image="/i", image_sha256="b" * 64)


def flavor(**extra_specs: str) -> Flavor:
    return Flavor(name="x", vcpus=1, memory_mib=64, disk_gib=1, extra_specs=extra_specs)


def asked(spec: BuildSpec, sized: Flavor, properties: Mapping[str, str], **more: Any) -> Ask:
    return ask_for(spec, sized, properties, resources=resources_for(sized), **more)


def test_what_the_request_says_is_asked() -> None:
    fields: dict[str, Any] = {
        "host": "h1",
        "project": "blue",
        "availability_zone": "east",
        "require_labels": ["gpu", "disk=ssd"],
        "forbid_labels": ["old"],
    }

    ask = asked(BuildSpec(name="web", image="/i", **fields), flavor(), {})

    assert (ask.resources, ask.host, ask.project, ask.zone) == (
        Resources(vcpus=1, memory_mib=64, disk_gib=1),
        "h1",
        "blue",
        "east",
    )
    assert (ask.required_labels, ask.forbidden_labels) == (("gpu", "disk=ssd"), ("old",))


def test_a_registered_image_says_where_it_lies_and_what_it_hashes_to() -> None:
    ask = asked(SPEC, flavor(), {}, image=image())

    assert (ask.image_host, ask.image_sha256) == (HostName("h1"), "0" * 64)
    assert asked(SPEC, flavor(), {}).image_sha256 == "b" * 64


def test_traits_of_flavor_and_image_are_asked_together() -> None:
    specs = {"trait:B": "required", "trait:A": "required", "trait:SLOW": "forbidden"}
    ask = asked(SPEC, Flavor(name="x", vcpus=1, memory_mib=64, disk_gib=1, extra_specs=specs), {"trait:C": "required"})

    assert (ask.required_traits, ask.forbidden_traits) == (("A", "B", "C"), ("SLOW",))


@pytest.mark.parametrize(
    ("specs", "properties", "sentence"),
    [
        ({"trait:A": "yes"}, {}, "flavor: trait:A='yes': must be trait:NAME=required or =forbidden"),
        ({"trait:a b": "required"}, {}, "must be trait:NAME=required"),
        ({}, {"trait:": "required"}, "image: trait:='required'"),
        ({"trait:A": "required"}, {"trait:A": "forbidden"}, "flavor and image say required and forbidden of trait A"),
        ({"capabilities:vcpus": ">= many"}, {}, "capabilities:vcpus='>= many': >= compares numbers"),
        ({}, {"img_hv_type": "xen"}, "image: img_hv_type='xen': hosts run guests by kvm or qemu"),
    ],
)
def test_what_can_not_be_read_is_refused_with_key_and_value(
    specs: dict[str, str], properties: dict[str, str], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        asked(SPEC, Flavor(name="x", vcpus=1, memory_mib=64, disk_gib=1, extra_specs=specs), properties)


def test_capabilities_and_aggregate_properties_come_from_the_flavor() -> None:
    specs = {"capabilities:cpu_info:model": "s== Haswell", "aggregate_instance_extra_specs:ssd": "true", "other": "x"}
    ask = asked(SPEC, Flavor(name="x", vcpus=1, memory_mib=64, disk_gib=1, extra_specs=specs), {})

    assert ask.capabilities == (("cpu_info:model", "s== Haswell"),)
    assert ask.aggregate_specs == (("ssd", "true"),)


@pytest.mark.parametrize(
    ("properties", "arch", "virt_type"),
    [
        ({}, None, None),
        ({"architecture": "amd64"}, "x86_64", None),
        ({"hw_architecture": "aarch64", "architecture": "x86_64"}, "aarch64", None),
        ({"img_hv_type": "kvm"}, None, VirtType.KVM),
        ({"hypervisor_type": "QEMU"}, None, None),
    ],
)
def test_an_image_says_what_it_is_made_for(
    properties: dict[str, str], arch: str | None, virt_type: VirtType | None
) -> None:
    ask = asked(SPEC, flavor(), properties)

    assert (ask.arch, ask.virt_type) == (arch, virt_type)
