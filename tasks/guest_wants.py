"""From a guest's flavor and options to what the kinds of resources are asked for."""

from collections.abc import Mapping

from taskvisor.compute.resources.kind import GuestWants
from taskvisor.compute.resources.table import ResourceTable
from taskvisor.compute.resources.things import claim_of_resident
from taskvisor.model.numa import PciAsk
from taskvisor.model.records import Claim, Flavor, Instance
from virt.options import GuestOptions, guest_options_for
from virt.options.memory import Encryption
from virt.policy import numa_ask_for


def wants_for(flavor: Flavor, image_properties: Mapping[str, str], options: GuestOptions) -> GuestWants:
    """What the guest asks of hosts. Refused when its NUMA nodes and CPUs do not add up."""
    return GuestWants(
        flavor=flavor,
        image_properties=image_properties,
        numa=numa_ask_for(flavor, options),
        pci=tuple(PciAsk(alias=request.alias, count=request.count) for request in options.device.pci),
        encrypted=options.memory.encryption is not Encryption.OFF,
    )


def claim_of(instance: Instance, table: ResourceTable) -> Claim:
    """What an instance that is on its host holds there, by its record. Refused when what it asks can't be met anywhere."""
    flavor, properties = instance.flavor, instance.image_properties
    wants = wants_for(flavor, properties, guest_options_for(flavor.extra_specs, properties))
    return claim_of_resident(instance, wants, table)
