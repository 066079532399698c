"""What several steps need to know of a guest before they touch anything: its disks, its NICs, its XML. All of it pure."""

from net.plan import vif_plan_for
from taskvisor.flow.step import StepContext
from taskvisor.model.plan import DiskLayout, VifPlan
from virt.domain import render
from virt.layout import disk_layout_for
from virt.policy import choices_for, domain_config_for, machine_for
from virt.seed import host_name_for


def layout_of(ctx: StepContext) -> DiskLayout:
    """The guest's disks on this host."""
    machine = machine_for(ctx.instance, ctx.ports.hypervisor.read_facts())
    return disk_layout_for(ctx.instance, instances_dir=ctx.ports.limits.instances_dir, machine=machine)


def vifs_of(ctx: StepContext) -> tuple[VifPlan, ...]:
    """The guest's NICs on this host, in NIC order."""
    hostname = host_name_for(ctx.instance)
    return tuple(
        vif_plan_for(port, ctx.ports.networks.read_network(port.network_id), hostname=hostname)
        for port in ctx.instance.ports
    )


def xml_of(ctx: StepContext) -> str:
    """The guest's whole definition, made anew from the records."""
    facts = ctx.ports.hypervisor.read_facts()
    choices = choices_for(ctx.ports.choices, ctx.instance.metadata)
    return render(domain_config_for(ctx.instance, layout_of(ctx), vifs_of(ctx), facts, choices=choices))
