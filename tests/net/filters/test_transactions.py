"""What processes of a worker know of nftables' tables without a look, and when they must look."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from net.filters import transactions
from net.filters.firewall import Firewall, read_listing
from net.filters.generation import Generation, read_generation
from net.filters.port_filters import PortFilters, read_port_listing
from net.filters.ruleset import Listing, NetworkRules
from net.filters.service_guard import ServiceGuard, read_names
from net.filters.transactions import Held, Transactions
from taskvisor.model.errors import Retryable
from taskvisor.model.network import NetworkKind
from tests.fixtures.namespaces import entered_namespace, open_namespace
from tests.net.plans import vif

FIRST = NetworkRules(bridge="brq00000000-01", cidr="10.1.0.0/24", nat=True)
SECOND = NetworkRules(bridge="brq00000000-02", cidr="10.2.0.0/24", nat=False)
THIRD = NetworkRules(bridge="brq00000000-03", cidr="10.3.0.0/24", nat=True)
OTHER = "add table inet other"
GONE = "delete table inet other"


class Counts:
    """The kernel's count, and who raises it, without a kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 4
        self.namespace = "boot 1"
        self.looks = 0
        self.strangers_during = 0
        monkeypatch.setattr(transactions, "read_generation", self.now)
        monkeypatch.setattr(transactions, "run_script", self.run)

    def now(self) -> Generation:
        return Generation(namespace=self.namespace, count=self.count)

    def run(self, script: str) -> None:
        if script == "bad":
            raise Retryable("no")
        self.count += 1 + self.strangers_during

    def look(self) -> list[str]:
        self.looks += 1
        return ["looked"]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], Transactions]:
    """Another process's each time."""
    return lambda: Transactions(tmp_path / "lock")


def changed(one: Transactions, counts: Counts, name: str, after: list[str], script: str = "good") -> None:
    known = one.known(name, list[str])
    one.change(script, known, one.read(known, counts.look), after)


def read(one: Transactions, counts: Counts, name: str) -> list[str]:
    return one.read(one.known(name, list[str]), counts.look).value


def test_what_one_process_changed_another_need_not_look_at(counts: Counts, opened: Callable[[], Transactions]) -> None:
    changed(opened(), counts, "ports", ["a"])
    changed(opened(), counts, "networks", ["b"])
    changed(opened(), counts, "ports", ["c"])
    assert counts.looks == 2, "one for each of the two, before anything was known"
    assert (read(opened(), counts, "ports"), read(opened(), counts, "networks")) == (["c"], ["b"])
    assert counts.looks == 2


def test_one_process_hears_of_anothers_change_though_it_remembers(
    counts: Counts, opened: Callable[[], Transactions]
) -> None:
    one, other = opened(), opened()
    known = one.known("ports", list[str])
    one.change("good", known, one.read(known, counts.look), ["a"])
    changed(other, counts, "ports", ["b"])
    assert one.read(known, counts.look).value == ["b"]


@pytest.mark.parametrize("when", ["before", "between", "during", "after"])
def test_a_strangers_change_at_any_time_costs_a_look(
    counts: Counts, opened: Callable[[], Transactions], when: str
) -> None:
    changed(opened(), counts, "ports", ["a"])
    if when == "during":
        counts.strangers_during = 1
        changed(opened(), counts, "networks", ["b"])
        counts.strangers_during = 0
    if when == "between":
        known = (one := opened()).known("networks", list[str])
        held = one.read(known, counts.look)
        counts.count += 1
        one.change("good", known, held, ["b"])
    if when in ("before", "after"):
        counts.count += 1
    if when == "before":
        changed(opened(), counts, "networks", ["b"])
    before = counts.looks
    assert read(opened(), counts, "ports") == ["looked"]
    assert counts.looks == before + 1
    assert read(opened(), counts, "ports") == ["looked"]
    assert counts.looks == before + 1


def test_counts_of_another_namespace_or_boot_mean_nothing(counts: Counts, opened: Callable[[], Transactions]) -> None:
    changed(opened(), counts, "ports", ["a"])
    counts.namespace = "boot 2"
    assert read(opened(), counts, "ports") == ["looked"]


def test_a_script_that_fails_leaves_what_is_known(counts: Counts, opened: Callable[[], Transactions]) -> None:
    changed(opened(), counts, "ports", ["a"])
    with pytest.raises(Retryable):
        changed(opened(), counts, "ports", ["b"], "bad")
    assert read(opened(), counts, "ports") == ["a"]


@pytest.mark.parametrize("dies_before", ["_remember", "_note"])
def test_a_process_that_dies_right_after_its_change_leaves_no_wrong_belief(
    counts: Counts, opened: Callable[[], Transactions], monkeypatch: pytest.MonkeyPatch, dies_before: str
) -> None:
    changed(opened(), counts, "networks", ["n"])
    changed(opened(), counts, "ports", ["a"])
    with monkeypatch.context() as dying:
        real = getattr(Transactions, dies_before)

        def die(self: Transactions, *rest: object) -> bool:
            if dies_before == "_remember" and rest[-1] != Held(at=counts.now(), value=["b"]):
                return bool(real(self, *rest))
            raise KeyboardInterrupt

        dying.setattr(Transactions, dies_before, die)
        with pytest.raises(KeyboardInterrupt):
            changed(opened(), counts, "ports", ["b"])
    assert read(opened(), counts, "ports") == (["looked"] if dies_before == "_remember" else ["b"])
    changed(opened(), counts, "others", ["o"])
    assert read(opened(), counts, "networks") == ["looked"], "it is not known who changed what in between"


@pytest.mark.parametrize("content", [b"", b"x", b"0 4 boot 1\n\x80", b"\xff\xff\n"])
def test_a_file_that_is_not_whole_is_none(
    counts: Counts, opened: Callable[[], Transactions], tmp_path: Path, content: bytes
) -> None:
    for name in ("lock.ports", "lock.run"):
        (tmp_path / name).write_bytes(content)
    assert read(opened(), counts, "ports") == ["looked"]


def test_what_a_version_with_other_fields_wrote_is_not_read(counts: Counts, opened: Callable[[], Transactions]) -> None:
    changed(opened(), counts, "ports", ["a"])
    one = opened()
    assert one.read(one.known("ports", dict[str, str]), lambda: {"a": "b"}).value == {"a": "b"}


def test_where_nothing_can_be_written_each_looks(
    counts: Counts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed = Transactions(tmp_path / "none" / "lock")
    changed(closed, counts, "ports", ["a"])
    assert read(closed, counts, "ports") == ["looked"]
    assert counts.looks == 2


@pytest.mark.real
def test_each_parts_knowledge_is_what_the_kernel_holds_through_changes_of_all(
    host_namespace: str, tmp_state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parts() -> tuple[Firewall, PortFilters, ServiceGuard]:
        shared = Transactions(tmp_state_dir / "lock")
        return Firewall(shared), PortFilters(shared, tmp_state_dir / "filters"), ServiceGuard(shared)

    tunnelled = replace(vif(), kind=NetworkKind.VXLAN, segment=77)
    changes: list[Callable[[], object]] = [
        lambda: parts()[0].ensure_network(FIRST),
        lambda: parts()[0].ensure_network(SECOND),
        lambda: parts()[2].ensure_guarded(tunnelled),
        lambda: parts()[0].ensure_network_absent(FIRST.bridge),
        lambda: parts()[0].ensure_network(THIRD),
        lambda: subprocess.run(["nft", OTHER], check=True),
        lambda: parts()[0].ensure_network_absent(SECOND.bridge),
        lambda: parts()[2].ensure_network_unguarded(tunnelled),
        lambda: parts()[0].ensure_network_absent(THIRD.bridge),
    ]
    for change in changes:
        change()
        firewall, filters, _ = parts()
        assert (firewall.read(), filters.read()) == (read_listing(), read_port_listing())
    subprocess.run(["nft", GONE], check=True)
    assert read_listing() == Listing()
    assert not any(read_names().values())


@pytest.mark.real
def test_a_count_bears_its_namespace_and_no_later_one_is_taken_for_it(host_namespace: str) -> None:
    here = read_generation()
    seen = {here.namespace}
    for number in range(3):
        with open_namespace(f"{host_namespace[-8:]}c{number}") as name, entered_namespace(name):
            there = read_generation()
        assert there.namespace not in seen
        seen.add(there.namespace)
    assert read_generation() == here
