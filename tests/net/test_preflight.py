"""What a host lacks is said before the first guest comes."""

from pathlib import Path

import pytest

from net.command import Ended
from net.filters.generation import read_generation
from net.links.netlink import open_netlink
from net.preflight import list_problems
from taskvisor.model.network import HostLinks

pytestmark = pytest.mark.real


def test_this_host_has_no_problems_and_looking_leaves_nothing(host_namespace: str) -> None:
    before = read_generation()
    assert list_problems() == ()
    assert read_generation() == before
    with open_netlink() as netlink:
        assert [link.name for link in netlink.list_links()] == ["lo"]


def test_each_thing_missing_has_its_sentence(
    host_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("net.links.tun.DEVICE", str(tmp_path / "tun"))
    monkeypatch.setattr("net.command.SEARCH_PATH", str(tmp_path))
    problems = list_problems()
    assert [problem.split(" is not ")[0] for problem in problems] == [str(tmp_path / "tun"), "nft", "dnsmasq"]


def test_links_that_this_host_was_told_of_and_lacks_have_their_sentences(
    host_namespace: str, tmp_state_dir: Path
) -> None:
    told = HostLinks(uplinks={"lo-net": "lo", "physnet1": "eth7"}, tunnel_address="192.0.2.1")
    interface, address = list_problems(tmp_state_dir, told)
    assert "no interface eth7, which TASKVISOR_PHYSICAL_NETWORKS names for physnet1" in interface
    assert "no interface has 192.0.2.1" in address
    assert list_problems(tmp_state_dir, HostLinks(uplinks={"n": "lo"}, tunnel_address="127.0.0.1")) == ()


def test_a_closed_state_directory_has_its_sentence(host_namespace: str, tmp_state_dir: Path) -> None:
    tmp_state_dir.chmod(0o700)
    (problem,) = list_problems(tmp_state_dir)
    assert f"chmod o+x {tmp_state_dir}" in problem
    tmp_state_dir.chmod(0o755)
    assert list_problems(tmp_state_dir) == ()


def test_programs_that_fail_have_their_sentences_too(host_namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: list[str], **_: object) -> Ended:
        return Ended(argv=tuple(argv), exit_code=1, stdout=b"", stderr=b"no such luck")

    monkeypatch.setattr("net.preflight.run_command", fail)
    nft, dnsmasq = list_problems()
    assert "nftables does not take" in nft
    assert "no such luck" in nft
    assert "dnsmasq does not run" in dnsmasq
