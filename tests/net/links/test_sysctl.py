"""The switches below /proc/sys/net."""

from pathlib import Path

import pytest

from net.links import sysctl
from net.links.sysctl import ensure_forwarding, ensure_no_ipv6, ensure_sysctl
from taskvisor.model.errors import DoesNotFit, Retryable


def test_a_kernel_without_ipv6_has_it_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "ROOT", tmp_path)
    ensure_no_ipv6("tap0")


def test_a_switch_of_a_link_that_has_gone_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "ROOT", tmp_path)
    (tmp_path / "ipv6").mkdir()
    with pytest.raises(Retryable, match="its link has gone"):
        ensure_no_ipv6("tap0")


def test_a_switch_that_cannot_be_written_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "ROOT", Path("/proc"))
    with pytest.raises(DoesNotFit, match="writable"):
        ensure_sysctl("version", "1")


@pytest.mark.real
def test_forwarding_is_recorded_only_when_it_was_we_who_switched_it_on(host_namespace: str, tmp_path: Path) -> None:
    ensure_forwarding(tmp_path / "first")
    ensure_forwarding(tmp_path / "second")
    assert (tmp_path / "first").exists()
    assert not (tmp_path / "second").exists()
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
