"""virt/usage.py: libvirt's figures of a domain, as libvirt gave them for a guest that ran with two disks and a NIC."""

from taskvisor.model.ids import InstanceId
from taskvisor.model.measured import DiskCounters, GuestUsage, TrafficCounters
from taskvisor.model.states import PowerState
from virt.usage import guest_usage_for

UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
RECORDED = {
    "state.state": 1,
    "state.reason": 1,
    "cpu.time": 12_000_000_000,
    "cpu.user": 8_000_000_000,
    "cpu.system": 4_000_000_000,
    "balloon.current": 262_144,
    "balloon.maximum": 262_144,
    "balloon.rss": 180_000,
    "balloon.unused": 90_000,
    "vcpu.current": 2,
    "vcpu.maximum": 2,
    "net.count": 1,
    "net.0.name": "tap1",
    "net.0.rx.bytes": 100,
    "net.0.rx.pkts": 2,
    "net.0.rx.errs": 0,
    "net.0.rx.drop": 1,
    "net.0.tx.bytes": 300,
    "net.0.tx.pkts": 4,
    "net.0.tx.errs": 0,
    "net.0.tx.drop": 0,
    "block.count": 2,
    "block.0.name": "vda",
    "block.0.rd.reqs": 10,
    "block.0.rd.bytes": 1000,
    "block.0.wr.reqs": 5,
    "block.0.wr.bytes": 500,
    "block.1.name": "sda",
    "block.1.rd.reqs": 1,
    "block.1.rd.bytes": 1,
    "block.1.wr.reqs": 0,
    "block.1.wr.bytes": 0,
}


def test_a_guest_that_runs_is_summed_over_its_disks_and_nics() -> None:
    assert guest_usage_for(UUID, RECORDED) == GuestUsage(
        instance_id=InstanceId(UUID),
        power_state=PowerState.RUNNING,
        vcpus=2,
        cpu_ns=12_000_000_000,
        memory_kib=262_144,
        rss_kib=180_000,
        unused_kib=90_000,
        disks=DiskCounters(read_bytes=1001, read_requests=11, write_bytes=500, write_requests=5),
        traffic=TrafficCounters(rx_bytes=100, rx_packets=2, rx_drops=1, tx_bytes=300, tx_packets=4, tx_drops=0),
    )


def test_a_guest_whose_qemu_hangs_tells_its_state_and_no_zeros() -> None:
    assert guest_usage_for(UUID, {"state.state": 1, "state.reason": 1}) == GuestUsage(
        instance_id=InstanceId(UUID), power_state=PowerState.RUNNING
    )


def test_disks_that_are_named_without_figures_are_not_told_as_idle() -> None:
    assert guest_usage_for(UUID, {"state.state": 5, "block.count": 1, "block.0.name": "vda"}).disks is None
