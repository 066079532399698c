"""A QEMU that hangs costs its own guest's calls a bounded time, and nobody else anything."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from structlog.testing import capture_logs

from taskvisor.model.errors import Retryable
from taskvisor.model.states import PowerState
from tests.fixtures.hosts import Libvirtd
from tests.virt.bare_guests import bare_guest, qemu_pid
from virt import power
from virt.answering import QemuSilent
from virt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real

SOON_S = 60.0
"""What does not wait for the hung QEMU is over long before; on a crowded machine, too."""


@pytest.fixture
def hypervisor(libvirtd: Libvirtd) -> Iterator[LibvirtHypervisor]:
    opened = LibvirtHypervisor(libvirtd.uri)
    yield opened
    opened.close()


@contextmanager
def hung(pid: int) -> Iterator[None]:
    """The process stands still; it may end meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_its_guest_hears_no_button_is_seen_to_run_and_can_be_ended(
    libvirtd: Libvirtd, hypervisor: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "PRESS_LIMIT_S", 1.0)
    with bare_guest(libvirtd, "hung") as (guest, _), hung(qemu_pid(libvirtd, "hung")), capture_logs() as logged:
        for _ in range(2):  # QEMU does not answer; then libvirt waits for the first call to end
            hypervisor.request_shutdown(guest)
        reasons = [line["reason"] for line in logged if line["event"] == "shutdown_not_heard"]
        assert len(reasons) == 2
        assert "its QEMU has not answered for 1 s" in reasons[0]

        began = time.monotonic()
        seen = hypervisor.read_domain(guest)
        assert seen is not None
        assert seen.power_state is PowerState.RUNNING
        assert guest in [domain.instance_id for domain in hypervisor.list_domains()]
        assert time.monotonic() - began < SOON_S

        hypervisor.ensure_off(guest)
        ended = hypervisor.read_domain(guest)
        assert ended is not None
        assert ended.power_state is PowerState.SHUTDOWN


def test_a_resume_that_it_does_not_answer_may_be_tried_again_and_other_guests_go_on(
    libvirtd: Libvirtd, hypervisor: LibvirtHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "ANSWER_LIMIT_S", 1.0)
    with bare_guest(libvirtd, "hung") as (guest, domain), bare_guest(libvirtd, "other") as (other, others_domain):
        domain.suspend()
        others_domain.suspend()
        with hung(qemu_pid(libvirtd, "hung")):
            with pytest.raises(QemuSilent, match=f"cannot resume domain {guest}: its QEMU has not answered") as raised:
                hypervisor.ensure_running(guest)
            assert isinstance(raised.value, Retryable)

            monkeypatch.setattr(power, "ANSWER_LIMIT_S", SOON_S)
            assert hypervisor.ensure_running(other).power_state is PowerState.RUNNING
            hypervisor.request_shutdown(other)
            hypervisor.ensure_off(other)
            monkeypatch.undo()
            with pytest.raises(Retryable, match="cannot acquire state change lock"):  # libvirt's own word for it
                hypervisor.ensure_running(guest)
        deadline = time.monotonic() + SOON_S
        while hypervisor.ensure_running(guest).power_state is not PowerState.RUNNING:
            assert time.monotonic() < deadline


def test_its_host_is_measured_all_the_same_and_so_are_other_guests(
    libvirtd: Libvirtd, hypervisor: LibvirtHypervisor
) -> None:
    with bare_guest(libvirtd, "hung") as (guest, _), bare_guest(libvirtd, "other") as (other, _):
        with hung(qemu_pid(libvirtd, "hung")), capture_logs() as logged:
            for _ in range(2):
                began = time.monotonic()
                found = {seen.instance_id: seen for seen in hypervisor.read_usage().guests}
                assert time.monotonic() - began < SOON_S
                assert found[guest].power_state is PowerState.RUNNING
                assert found[guest].rss_kib is None or found[guest].disks is None
                assert found[other].memory_kib
        given_up = [line for line in logged if line["event"] == "domain_stats_given_up"]
        assert len(given_up) == 1  # the first call waits for it, and holds it for all others
