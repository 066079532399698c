"""Every decision about a guest's virtual hardware. Pure: what it needs to know it is given.

A new device, model or default is decided here and nowhere else; `virt.options` says what was asked for, `virt.domain` only
writes down what was decided.
"""

from taskvisor.model.operator import Dialect, Vendor
from virt.policy.choices import HostChoices, NovaOwnership
from virt.policy.guest import domain_config_for, domain_name_for, machine_for, options_of, owner_for
from virt.policy.operator import choices_for
from virt.policy.placement import numa_ask_for

__all__ = [
    "Dialect",
    "HostChoices",
    "NovaOwnership",
    "Vendor",
    "choices_for",
    "domain_config_for",
    "domain_name_for",
    "machine_for",
    "numa_ask_for",
    "options_of",
    "owner_for",
]
