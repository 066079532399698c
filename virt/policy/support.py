"""What a host must be able to do for a guest, asked of its facts. What the host was not asked is left to libvirt to refuse."""

from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.observed import GuestSupport


def require_offered(offered: frozenset[str] | None, wanted: str, what: str) -> None:
    """DoesNotFit when the host was asked what it has of this kind, and it was not among it."""
    if offered is not None and wanted not in offered:
        listed = ", ".join(sorted(offered)) or "none"
        raise DoesNotFit(f"this host offers no {what} {wanted}; it has {listed}")


def require_able(able: bool | None, what: str) -> None:
    """DoesNotFit when the host was asked whether it can, and can't."""
    if able is False:
        raise DoesNotFit(f"this host can't give a guest {what}")


def require_q35(machine: str, what: str) -> None:
    """Refused for another board than q35."""
    if "q35" not in machine:
        raise Refused(
            f"{what}: needs the machine q35, and the guest's is {machine}; set hw_machine_type=q35 on the image"
        )


def canonical_machine(support: GuestSupport, machine: str) -> str:
    """The machine's full name, which does not mean another board after an upgrade. DoesNotFit when the host lacks it."""
    if support.machines is None or machine in support.machines.values():
        return machine
    require_offered(frozenset(support.machines), machine, "machine type")
    return support.machines[machine]
