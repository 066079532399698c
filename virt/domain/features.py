"""Features of the board and of the hypervisor that the guest may see and use."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, element, element_of, flag_element, on_off, text_element, unless_empty


class HypervMode(StrEnum):
    CUSTOM = "custom"  # as each is set here
    PASSTHROUGH = "passthrough"  # whatever the host has; such a guest cannot move to another host


class IoApic(StrEnum):
    """Who emulates the I/O APIC."""

    KVM = "kvm"
    QEMU = "qemu"  # in part: what an emulated IOMMU with interrupt remapping needs


@dataclass(frozen=True, kw_only=True)
class HypervConfig(Config):
    """Enlightenments: what lets Windows know that it is a guest, and saves it the costly ways of real hardware.

        <hyperv mode="custom">
          <relaxed state="on"/>
          <spinlocks state="on" retries="8191"/>
          <stimer state="on">
            <direct state="on"/>
          </stimer>
          <vendor_id state="on" value="1234567890ab"/>
          …
        </hyperv>

    `stimer_direct` off is what a guest has anyway, and libvirt forgets it when told.
    https://libvirt.org/formatdomain.html#hypervisor-features
    """

    mode: HypervMode | None = None
    relaxed: bool | None = None
    vapic: bool | None = None
    spinlocks: bool | None = None
    spinlock_retries: int | None = None
    vpindex: bool | None = None
    runtime: bool | None = None
    synic: bool | None = None
    stimer: bool | None = None
    stimer_direct: bool = False
    reset: bool | None = None
    vendor_id: str | None = None
    frequencies: bool | None = None
    reenlightenment: bool | None = None
    tlbflush: bool | None = None
    ipi: bool | None = None
    evmcs: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "hyperv",
            [
                _state("relaxed", self.relaxed),
                _state("vapic", self.vapic),
                unless_empty(element("spinlocks", state=on_off(self.spinlocks), retries=self.spinlock_retries)),
                _state("vpindex", self.vpindex),
                _state("runtime", self.runtime),
                _state("synic", self.synic),
                unless_empty(
                    element("stimer", [_state("direct", self.stimer_direct or None)], state=on_off(self.stimer))
                ),
                _state("reset", self.reset),
                element("vendor_id", state="on", value=self.vendor_id) if self.vendor_id is not None else None,
                _state("frequencies", self.frequencies),
                _state("reenlightenment", self.reenlightenment),
                _state("tlbflush", self.tlbflush),
                _state("ipi", self.ipi),
                _state("evmcs", self.evmcs),
            ],
            mode=self.mode,
        )


@dataclass(frozen=True, kw_only=True)
class KvmConfig(Config):
    """What a guest may know of KVM.

        <kvm>
          <hidden state="on"/>
          <hint-dedicated state="on"/>
          <poll-control state="on"/>
        </kvm>

    `hidden`: drivers that refuse to run in a guest do run. `hint_dedicated`: its CPUs are not shared, so that it need
    not yield. https://libvirt.org/formatdomain.html#hypervisor-features
    """

    hidden: bool | None = None
    hint_dedicated: bool | None = None
    poll_control: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "kvm",
            [
                _state("hidden", self.hidden),
                _state("hint-dedicated", self.hint_dedicated),
                _state("poll-control", self.poll_control),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(Config):
    """Features of the board.

        <features>
          <acpi/>
          <apic eoi="on"/>
          <pae/>
          <hyperv>…</hyperv>
          <kvm>…</kvm>
          <pmu state="off"/>
          <vmport state="off"/>
          <smm state="on">
            <tseg unit="MiB">48</tseg>
          </smm>
          <ioapic driver="qemu"/>
          <vmcoreinfo state="on"/>
        </features>

    https://libvirt.org/formatdomain.html#hypervisor-features
    """

    acpi: bool = False
    apic: bool = False
    apic_eoi: bool | None = None
    pae: bool = False
    hyperv: HypervConfig | None = None
    kvm: KvmConfig | None = None
    pmu: bool | None = None
    vmport: bool | None = None
    smm: bool | None = None
    smm_tseg_mib: int | None = None
    ioapic: IoApic | None = None
    vmcoreinfo: bool | None = None

    def to_element(self) -> etree._Element:
        tseg = text_element("tseg", self.smm_tseg_mib, unit="MiB")
        return element(
            "features",
            [
                flag_element("acpi", self.acpi),
                element("apic", eoi=on_off(self.apic_eoi)) if self.apic else None,
                flag_element("pae", self.pae),
                element_of(self.hyperv),
                element_of(self.kvm),
                _state("pmu", self.pmu),
                _state("vmport", self.vmport),
                unless_empty(element("smm", [tseg], state=on_off(self.smm))),
                unless_empty(element("ioapic", driver=self.ioapic)),
                _state("vmcoreinfo", self.vmcoreinfo),
            ],
        )


def _state(tag: str, value: bool | None) -> etree._Element | None:
    return unless_empty(element(tag, state=on_off(value)))
