"""What keeps the guest apart from the host and from its neighbours."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, element, text_element, yes_no


class LabelType(StrEnum):
    DYNAMIC = "dynamic"  # libvirt makes a label that no other guest has
    STATIC = "static"  # the label that is given
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class SecurityLabelConfig(Config):
    """The label under which QEMU runs (SELinux, AppArmor, DAC).

        <seclabel type="static" model="selinux" relabel="yes">
          <label>system_u:system_r:svirt_t:s0:c392,c662</label>
        </seclabel>

    https://libvirt.org/formatdomain.html#security-label
    """

    type: LabelType
    model: str | None = None
    relabel: bool | None = None
    label: str | None = None
    base_label: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "seclabel",
            [text_element("label", self.label), text_element("baselabel", self.base_label)],
            type=self.type,
            model=self.model,
            relabel=yes_no(self.relabel),
        )


@dataclass(frozen=True, kw_only=True)
class SevConfig(Config):
    """Memory encrypted by the host's CPU, so that the host cannot read it (AMD SEV).

        <launchSecurity type="sev" kernelHashes="yes">
          <cbitpos>51</cbitpos>
          <reducedPhysBits>1</reducedPhysBits>
          <policy>0x0003</policy>
          <dhCert>…</dhCert>
          <session>…</session>
        </launchSecurity>

    `policy` is the bits of AMD's API; certificate and session, in base64, are the owner's. What libvirt knows of the
    host (the first two) may be left to it. https://libvirt.org/formatdomain.html#launch-security
    """

    policy: int
    c_bit_position: int | None = None
    reduced_phys_bits: int | None = None
    kernel_hashes: bool | None = None
    dh_certificate: str | None = None
    session: str | None = None

    def to_element(self) -> etree._Element:
        return element(
            "launchSecurity",
            [
                text_element("cbitpos", self.c_bit_position),
                text_element("reducedPhysBits", self.reduced_phys_bits),
                element("policy", text=f"0x{self.policy:04x}"),
                text_element("dhCert", self.dh_certificate),
                text_element("session", self.session),
            ],
            type="sev",
            kernelHashes=yes_no(self.kernel_hashes),
        )
