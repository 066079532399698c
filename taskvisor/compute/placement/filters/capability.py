"""Whether a host can what the image and the flavor need: its architecture, its hypervisor, its traits, its capabilities."""

from collections.abc import Mapping

from taskvisor.compute.placement.ask import Ask, Judge, Refusal
from taskvisor.compute.placement.requirement import meets
from taskvisor.model.records import Host, Inventory


def is_of_the_architecture(ask: Ask) -> Judge | None:
    if ask.arch is None:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.inventory is None or host.inventory.arch == ask.arch:
            return None
        return Refusal(
            reason=f"it is {host.inventory.arch}, and the image is for {ask.arch}",
            remedy=f"build from an image for {host.inventory.arch}",
            distance=5,
        )

    return judge


def is_of_the_virt_type(ask: Ask) -> Judge | None:
    wanted = ask.virt_type
    if wanted is None:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.inventory is None or host.inventory.virt_type is wanted:
            return None
        return Refusal(
            reason=f"it runs guests by {host.inventory.virt_type.value}, and the image needs {wanted.value}",
            remedy=f"make {wanted.value} usable there (TASKVISOR_VIRT_TYPE, /dev/kvm)",
            distance=3,
        )

    return judge


def has_the_traits(ask: Ask) -> Judge | None:
    if not ask.required_traits and not ask.forbidden_traits:
        return None
    required, forbidden = frozenset(ask.required_traits), frozenset(ask.forbidden_traits)

    def judge(host: Host) -> Refusal | None:
        if host.inventory is None:
            return None
        has = frozenset(host.inventory.traits)
        lacking, too_much = sorted(required - has), sorted(forbidden & has)
        if not lacking and not too_much:
            return None
        reasons = [f"it lacks trait {name}" for name in lacking] + [f"it has trait {name}" for name in too_much]
        asked = ", ".join(
            [f"trait:{name}=required" for name in lacking] + [f"trait:{name}=forbidden" for name in too_much]
        )
        return Refusal(
            reason="; ".join(reasons), remedy=f"leave {asked} out of flavor and image", distance=2.0 * len(reasons)
        )

    return judge


def has_the_capabilities(ask: Ask) -> Judge | None:
    """Nova's `capabilities:` of a flavor, as far as hosts report them: see `_facts_of`."""
    if not ask.capabilities:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.inventory is None:
            return None
        facts = _facts_of(host.inventory)
        wrong = [(name, wanted) for name, wanted in ask.capabilities if not meets(facts.get(name, ""), wanted)]
        if not wrong:
            return None
        reasons = [f"its {name} is {facts.get(name) or 'not told'}, and {wanted!r} is asked" for name, wanted in wrong]
        left_out = ", ".join(f"capabilities:{name}" for name, _ in wrong)
        return Refusal(
            reason="; ".join(reasons), remedy=f"leave {left_out} out of the flavor", distance=2.0 * len(wrong)
        )

    return judge


def _facts_of(inventory: Inventory) -> Mapping[str, str]:
    """Under the names that Nova gives them."""
    stats = {name: str(number) for name, number in inventory.stats.items()}
    return {
        **stats,
        "cpu_info:arch": inventory.arch,
        "cpu_info:model": inventory.cpu_model or "",
        "hypervisor_type": inventory.virt_type.value,
        "hypervisor_version": inventory.hypervisor_version,
        "vcpus": str(inventory.total.vcpus),
        "memory_mb": str(inventory.total.memory_mib),
        "local_gb": str(inventory.total.disk_gib),
        "free_disk_gb": str(inventory.disk_free_gib),
    }
