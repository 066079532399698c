"""From what a build asks, and what its flavor and its image need, to what is to be placed. Pure: text in, values out.

Namespaces of extra specs and image properties are Nova's: `trait:`, `capabilities:`, `aggregate_instance_extra_specs:`,
https://docs.openstack.org/nova/latest/user/flavors.html.
"""

import re
from collections.abc import Iterator, Mapping

from taskvisor.compute.placement.ask import Ask
from taskvisor.compute.placement.requirement import require_requirement
from taskvisor.compute.resources.kind import GuestWants
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.network import Network
from taskvisor.model.records import Flavor, Image, Resources
from taskvisor.model.spec import BuildSpec
from taskvisor.model.states import VirtType

TRAIT, CAPABILITIES, AGGREGATE_SPECS = "trait:", "capabilities:", "aggregate_instance_extra_specs:"
TRAIT_NAME = re.compile(r"[A-Z0-9_]{1,255}")
REQUIRED, FORBIDDEN = "required", "forbidden"
ARCH_KEYS = ("hw_architecture", "architecture")
VIRT_TYPE_KEYS = ("img_hv_type", "hypervisor_type")
ARCH_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686"}
"""What images are said to be for, in the words of those who make them."""
VIRT_TYPES: Mapping[str, VirtType | None] = {"kvm": VirtType.KVM, "qemu": None}
"""An image for QEMU runs on a host with KVM too: all of ours are QEMU's guests."""


def ask_for(
    spec: BuildSpec,
    flavor: Flavor,
    image_properties: Mapping[str, str],
    *,
    resources: Resources,
    wants: GuestWants | None = None,
    image: Image | None = None,
    networks: tuple[Network, ...] = (),
) -> Ask:
    """What is to be placed. `image` is the registered one, if it is one; its SHA-256 else is the one that the request says.

    Refused, with key and value, when a trait or a requirement is none.
    """
    traits = dict(_traits_of(flavor.extra_specs, image_properties))
    return Ask(
        resources=resources,
        wants=wants,
        host=HostName(spec.host) if spec.host else None,
        image_host=image.host if image else None,
        image_sha256=image.source.sha256 if image else spec.image_sha256,
        networks=networks,
        project=spec.project,
        zone=spec.availability_zone,
        required_labels=spec.require_labels,
        forbidden_labels=spec.forbid_labels,
        arch=_arch_of(image_properties),
        virt_type=_virt_type_of(image_properties),
        required_traits=tuple(sorted(name for name, word in traits.items() if word == REQUIRED)),
        forbidden_traits=tuple(sorted(name for name, word in traits.items() if word == FORBIDDEN)),
        capabilities=tuple(_requirements(flavor.extra_specs, CAPABILITIES)),
        aggregate_specs=tuple(_requirements(flavor.extra_specs, AGGREGATE_SPECS)),
    )


def _traits_of(specs: Mapping[str, str], properties: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    seen: dict[str, tuple[str, str]] = {}
    for where, texts in (("flavor", specs), ("image", properties)):
        for key, word in texts.items():
            if not key.startswith(TRAIT):
                continue
            name = key.removeprefix(TRAIT)
            if not TRAIT_NAME.fullmatch(name) or word not in (REQUIRED, FORBIDDEN):
                raise Refused(
                    f"{where}: {key}={word!r}: must be trait:NAME=required or =forbidden, NAME like HW_CPU_X86_AVX2"
                )
            first, said = seen.setdefault(name, (where, word))
            if said != word:
                raise Refused(f"{first} and {where} say {said} and {word} of trait {name}; remove one of them")
            yield name, word


def _requirements(specs: Mapping[str, str], namespace: str) -> Iterator[tuple[str, str]]:
    for key, text in sorted(specs.items()):
        if key.startswith(namespace):
            require_requirement(key, text)
            yield key.removeprefix(namespace), text


def _arch_of(properties: Mapping[str, str]) -> str | None:
    said = next((properties[key].lower() for key in ARCH_KEYS if properties.get(key)), None)
    return None if said is None else ARCH_ALIASES.get(said, said)


def _virt_type_of(properties: Mapping[str, str]) -> VirtType | None:
    for key in VIRT_TYPE_KEYS:
        said = properties.get(key, "").lower()
        if said and said not in VIRT_TYPES:
            raise Refused(
                f"image: {key}={properties[key]!r}: hosts run guests by kvm or qemu; use an image for one of them"
            )
        if said:
            return VIRT_TYPES[said]
    return None
