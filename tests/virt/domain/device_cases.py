"""Every option of the devices that are neither storage nor display: NICs, consoles, controllers, and what is the host's."""

from collections.abc import Mapping
from dataclasses import replace

from tests.virt.domain.bases import PC, Q35, SECRET_UUID, with_devices
from virt.domain.address import PciAddressConfig
from virt.domain.board_devices import IommuConfig, IommuDriverConfig, IommuModel, TpmConfig, TpmModel, TpmVersion
from virt.domain.character import ChannelConfig, ConsoleConfig, ConsoleTarget, LogAppend, LogConfig, SerialConfig
from virt.domain.character_backend import (
    EndpointMode,
    FileBackend,
    PtyBackend,
    TcpBackend,
    TcpProtocol,
    UnixBackend,
)
from virt.domain.connection import (
    BridgeConnection,
    Connection,
    HostdevConnection,
    MacvtapConnection,
    MacvtapMode,
    SocketMode,
    TapConnection,
    VhostUserConnection,
)
from virt.domain.controller import (
    PciControllerConfig,
    PciModel,
    UsbControllerConfig,
    UsbModel,
    VirtioSerialControllerConfig,
)
from virt.domain.cpu import NumaCellConfig
from virt.domain.display import (
    VncConfig,
)
from virt.domain.domain import DomainConfig
from virt.domain.features import FeaturesConfig, IoApic
from virt.domain.hostdev import MdevHostdevConfig, PciHostdevConfig
from virt.domain.interface import (
    BandwidthConfig,
    InterfaceBackend,
    InterfaceConfig,
    InterfaceDriverConfig,
    InterfaceModel,
    LinkState,
    OpenVswitchPortConfig,
    RateLimitConfig,
)
from virt.domain.memory import MemoryAccess, MemoryBackingConfig, MemorySource
from virt.domain.virtual import (
    BalloonConfig,
    BalloonModel,
    EgdBackendConfig,
    PanicConfig,
    PanicModel,
    RandomBackendConfig,
    RngConfig,
    VirtioModel,
    VsockConfig,
    WatchdogAction,
    WatchdogConfig,
    WatchdogModel,
)

FUNCTION = PciAddressConfig(bus=0x3B, slot=2, function=1)
MEDIATED_UUID = "c2177883-f1bb-47f0-914d-32a22e3a8804"


def device_cases() -> Mapping[str, DomainConfig]:
    """Each by the name of its golden file."""
    return {
        **_nic_cases(),
        **_console_cases(),
        **_controller_cases(),
        **_virtual_cases(),
        **_board_cases(),
        **_hostdev_cases(),
    }


def _nic(number: int, connection: Connection | None = None) -> InterfaceConfig:
    return InterfaceConfig(
        connection=connection or BridgeConnection(bridge="brq6ba7b810-9d"), mac=f"52:54:00:aa:bb:{number:02x}"
    )


def _nic_cases() -> dict[str, DomainConfig]:
    fast = InterfaceDriverConfig(
        name=InterfaceBackend.VHOST, queues=4, rx_queue_size=1024, tx_queue_size=256, iommu=True, packed=True
    )
    plain = InterfaceDriverConfig(name=InterfaceBackend.QEMU, iommu=False, packed=False)
    bandwidth = BandwidthConfig(
        inbound=RateLimitConfig(average_kib_s=1000, peak_kib_s=5000, burst_kib=5120),
        outbound=RateLimitConfig(average_kib_s=128),
    )
    cards = [card for card in InterfaceModel if card is not InterfaceModel.VIRTIO]
    sockets = (
        VhostUserConnection(path="/run/vhu1", mode=SocketMode.SERVER),
        VhostUserConnection(path="/run/vhu2", mode=SocketMode.CLIENT, reconnect=True, reconnect_time_limit_s=10),
        VhostUserConnection(path="/run/vhu3", mode=SocketMode.CLIENT, reconnect=False),
    )
    return {
        "nic_tuned": with_devices(
            Q35,
            replace(
                _nic(1, BridgeConnection(bridge="br-int", tap="tap16cd9b2c-ad")),
                model=InterfaceModel.VIRTIO,
                driver=fast,
                mtu=1450,
                vlan_tags=(42,),
                virtual_port=OpenVswitchPortConfig(interface_id=SECRET_UUID, profile_id="ports"),
                bandwidth=bandwidth,
                link=LinkState.UP,
                boot_order=2,
                alias="ua-nic1",
                address=PciAddressConfig(bus=0, slot=8),
            ),
            replace(
                _nic(2),
                model=InterfaceModel.VIRTIO,
                driver=plain,
                vlan_tags=(7, 8),
                virtual_port=OpenVswitchPortConfig(interface_id=MEDIATED_UUID),
                link=LinkState.DOWN,
            ),
            replace(
                _nic(3, TapConnection(tap="tap54000001-ab")),
                model=InterfaceModel.VIRTIO,
                bandwidth=BandwidthConfig(outbound=RateLimitConfig(average_kib_s=64)),
            ),
        ),
        "nic_cards": with_devices(PC, *(replace(_nic(n), model=card) for n, card in enumerate(cards))),
        "nic_macvtap": with_devices(
            PC,
            *(
                replace(
                    _nic(n, MacvtapConnection(device=f"eth{n}", mode=mode)),
                    model=InterfaceModel.VIRTIO,
                    trust_guest_rx_filters=mode is MacvtapMode.PASSTHROUGH,
                )
                for n, mode in enumerate(MacvtapMode)
            ),
        ),
        "nic_of_the_host": with_devices(
            PC,
            _nic(1, HostdevConnection(address=FUNCTION, is_managed=True)),
            _nic(2, HostdevConnection(address=replace(FUNCTION, domain=1), is_managed=False)),
        ),
        "nic_on_vhost_user": replace(
            PC,
            memory_backing=MemoryBackingConfig(source=MemorySource.MEMFD, access=MemoryAccess.SHARED),
            devices=tuple(replace(_nic(n, socket), model=InterfaceModel.VIRTIO) for n, socket in enumerate(sockets)),
        ),
    }


def _console_cases() -> dict[str, DomainConfig]:
    log = LogConfig(path="/var/log/one", append=LogAppend.ON)
    waiting = TcpBackend(mode=EndpointMode.BIND, host="127.0.0.1", port=10000, protocol=TcpProtocol.RAW, tls=False)
    calling = TcpBackend(mode=EndpointMode.CONNECT, host="10.0.0.1", port=23, protocol=TcpProtocol.TELNET, tls=True)
    return {
        "serial_ports": with_devices(
            PC,
            SerialConfig(backend=FileBackend(path="/var/log/guest", append=True)),
            SerialConfig(backend=FileBackend(path="/var/log/other", append=False), port=1),
            SerialConfig(backend=waiting, log=log, port=2),
            SerialConfig(backend=UnixBackend(path="/run/serial.sock", mode=EndpointMode.CONNECT), port=3),
            ConsoleConfig(backend=FileBackend(path="/var/log/guest", append=True), target=ConsoleTarget.SERIAL),
            ConsoleConfig(
                backend=PtyBackend(),
                target=ConsoleTarget.VIRTIO,
                log=LogConfig(path="/var/log/two", append=LogAppend.OFF),
                port=1,
            ),
        ),
        "serial_over_tls": with_devices(PC, SerialConfig(backend=calling)),
        "channels": with_devices(
            Q35,
            VirtioSerialControllerConfig(index=0, ports=16, vectors=4, iommu=True),
            VirtioSerialControllerConfig(index=1, iommu=False, address=PciAddressConfig(bus=0, slot=11)),
            ChannelConfig(
                backend=UnixBackend(path="/run/agent.sock", mode=EndpointMode.BIND),
                name="org.qemu.guest_agent.0",
                alias="ua-agent",
            ),
        ),
    }


def _controller_cases() -> dict[str, DomainConfig]:
    cells = (NumaCellConfig(id=0, cpus=frozenset(range(4)), memory_mib=512),)
    return {
        "usb_two_generations": with_devices(
            PC,
            UsbControllerConfig(index=0, model=UsbModel.QEMU_XHCI, ports=15),
            UsbControllerConfig(index=1, model=UsbModel.NEC_XHCI, address=PciAddressConfig(bus=0, slot=12)),
            UsbControllerConfig(index=2, model=UsbModel.EHCI),
            UsbControllerConfig(index=3, model=UsbModel.PIIX4_UHCI),
        ),
        "pci_express": replace(
            Q35,
            cpu=replace(Q35.cpu, numa_cells=cells),
            devices=(
                PciControllerConfig(index=0, model=PciModel.PCIE_ROOT, hole_64_kib=1048576),
                PciControllerConfig(index=1, model=PciModel.PCIE_ROOT_PORT, chassis=1, port=0x10, hotplug=True),
                PciControllerConfig(
                    index=2,
                    model=PciModel.PCIE_ROOT_PORT,
                    chassis=2,
                    port=0x8,
                    hotplug=False,
                    address=PciAddressConfig(bus=0, slot=1),
                ),
                PciControllerConfig(index=3, model=PciModel.PCIE_TO_PCI_BRIDGE),
                PciControllerConfig(index=4, model=PciModel.PCIE_EXPANDER_BUS, bus_number=180, numa_cell=0),
            ),
        ),
        "pci": replace(
            PC,
            cpu=replace(PC.cpu, numa_cells=cells),
            devices=(
                PciControllerConfig(index=0, model=PciModel.PCI_ROOT),
                PciControllerConfig(index=1, model=PciModel.PCI_BRIDGE),
                PciControllerConfig(index=2, model=PciModel.PCI_EXPANDER_BUS, bus_number=200),
            ),
        ),
    }


def _virtual_cases() -> dict[str, DomainConfig]:
    old, new = VirtioModel.TRANSITIONAL, VirtioModel.NON_TRANSITIONAL
    watchdogs = {
        f"watchdog_{action.replace('-', '_')}": with_devices(
            PC,
            WatchdogConfig(
                model=WatchdogModel.IB700 if action is WatchdogAction.DUMP else WatchdogModel.I6300ESB, action=action
            ),
        )
        for action in WatchdogAction
    }
    return {
        **watchdogs,
        "virtio_transitional": with_devices(
            Q35,
            BalloonConfig(model=BalloonModel.TRANSITIONAL, auto_deflate=False, free_page_reporting=False, iommu=True),
            RngConfig(
                backend=EgdBackendConfig(host="127.0.0.1", port=708),
                model=old,
                rate_bytes=1024,
                rate_period_ms=1000,
                iommu=True,
            ),
            VsockConfig(cid=3, model=old, iommu=True),
        ),
        "virtio_non_transitional": with_devices(
            Q35,
            BalloonConfig(model=BalloonModel.NON_TRANSITIONAL, iommu=False),
            RngConfig(backend=RandomBackendConfig(path="/dev/random"), model=new, iommu=False),
            RngConfig(backend=EgdBackendConfig(host="10.0.0.1", port=709)),
            VsockConfig(cid=4, model=new, iommu=False),
        ),
        "vsock_at_any_address": with_devices(PC, VsockConfig(), BalloonConfig(model=BalloonModel.NONE)),
        "panic_devices": with_devices(PC, PanicConfig(model=PanicModel.ISA)),
        "panic_of_windows": with_devices(PC, PanicConfig(model=PanicModel.HYPERV)),
    }


def _board_cases() -> dict[str, DomainConfig]:
    remapping = IommuDriverConfig(interrupt_remapping=True, caching_mode=True, eim=True, iotlb=True, address_bits=48)
    nothing = IommuDriverConfig(interrupt_remapping=False, caching_mode=False, eim=False, iotlb=False)
    split = FeaturesConfig(acpi=True, apic=True, ioapic=IoApic.QEMU)
    return {
        "tpm_2": with_devices(Q35, TpmConfig(model=TpmModel.CRB, version=TpmVersion.V2_0, secret_uuid=SECRET_UUID)),
        "tpm_1": with_devices(PC, TpmConfig(model=TpmModel.TIS, version=TpmVersion.V1_2)),
        "iommu": replace(Q35, features=split, devices=(IommuConfig(model=IommuModel.INTEL, driver=remapping),)),
        "iommu_of_little_use": replace(
            Q35, features=split, devices=(IommuConfig(model=IommuModel.INTEL, driver=nothing),)
        ),
        "iommu_virtio": with_devices(Q35, IommuConfig(model=IommuModel.VIRTIO)),
    }


def _hostdev_cases() -> dict[str, DomainConfig]:
    card = PciHostdevConfig(source=FUNCTION, managed=True)
    slice_of_gpu = MdevHostdevConfig(uuid=MEDIATED_UUID)
    return {
        "hostdev_pci": with_devices(
            PC,
            replace(card, boot_order=1, alias="ua-gpu", rom_bar=False, address=PciAddressConfig(bus=0, slot=6)),
            replace(card, source=PciAddressConfig(domain=2, bus=1, slot=0), managed=False, rom_bar=True),
        ),
        "hostdev_mdev": with_devices(
            PC,
            VncConfig(listen_address="127.0.0.1"),
            replace(slice_of_gpu, display=True, ramfb=True, alias="ua-vgpu"),
            replace(slice_of_gpu, uuid=SECRET_UUID, display=False, ramfb=False),
        ),
    }
