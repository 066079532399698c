"""Config to XML: one XML element, one small frozen class, in the order in which libvirt gives them back.

Conversion only. Which devices a guest has, and how they are set, is decided in `virt.policy`; nothing here reads a
file, a setting or a hypervisor.
"""

from virt.domain.domain import DomainConfig


def render(config: DomainConfig) -> str:
    """The domain as libvirt takes it: indented XML, the same for the same config."""
    return config.to_xml()
