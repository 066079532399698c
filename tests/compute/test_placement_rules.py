"""Which rules and weights there are: ours, strangers', chosen by an operator; and what a wrong name is told."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.compute.placement import PACK, SPREAD, Ask, Companions, Gauge, Refusal, Rules, placement_for, rules_for
from taskvisor.compute.placement.requirement import meets, require_requirement
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.records import Host, Resources
from taskvisor.model.server_group import GroupPolicy
from taskvisor.model.weights import parse_weights
from tests.support.records import inventory

ASK = Ask(resources=Resources(vcpus=1, memory_mib=64, disk_gib=1))
SHA256 = "a" * 64


def host(name: str, **fields: object) -> Host:
    good = Host(name=HostName(name), inventory=inventory(), used=Resources(), instances=0, up=True)
    changed: Host = replace(good, **fields)  # type: ignore[arg-type]
    return changed


def order(ask: Ask, weights: str, *hosts: Host) -> list[str]:
    return [one.name for one in placement_for(ask, hosts, rules_for((), parse_weights(weights), {})).candidates]


def soft(policy: GroupPolicy) -> Ask:
    group = Companions(name="g", policy=policy, servers_per_host=1, members=((HostName("a"), 2), (HostName("b"), 1)))
    return replace(ASK, companions=group)


@pytest.mark.parametrize(
    ("ask", "weights", "hosts", "expected"),
    [
        (ASK, "memory=1", {"a": {"used": Resources(memory_mib=9)}, "b": {}}, ["b", "a"]),
        (ASK, "memory=-1", {"a": {"used": Resources(memory_mib=9)}, "b": {}}, ["a", "b"]),
        (ASK, "cpu=1", {"a": {"used": Resources(vcpus=9)}, "b": {}}, ["b", "a"]),
        (ASK, "disk=-2", {"a": {}, "b": {"used": Resources(disk_gib=9)}}, ["b", "a"]),
        (ASK, "instances=-1", {"a": {"instances": 2}, "b": {"instances": 1}}, ["b", "a"]),
        (
            ASK,
            "io_workload=-1",
            {"a": {"inventory": replace(inventory(), stats={"io_workload": 3})}, "b": {}},
            ["b", "a"],
        ),
        (ASK, "build_failures=-1", {"a": {"failed_builds": 1}, "b": {}}, ["b", "a"]),
        (
            replace(ASK, image_sha256=SHA256),
            "image_cached=1",
            {"a": {}, "b": {"inventory": replace(inventory(), cached_images=(SHA256,))}},
            ["b", "a"],
        ),
        (soft(GroupPolicy.SOFT_AFFINITY), "soft_affinity=1", {"b": {}, "c": {}, "a": {}}, ["a", "b", "c"]),
        (soft(GroupPolicy.SOFT_ANTI_AFFINITY), "soft_anti_affinity=-1", {"a": {}, "b": {}, "c": {}}, ["c", "b", "a"]),
        # each by its share of what there is: half of the memory weighs as half of the CPUs
        (
            ASK,
            "memory=1,cpu=2",
            {"a": {"used": Resources(vcpus=64)}, "b": {"used": Resources(memory_mib=65_536)}, "c": {}},
            ["c"],
        ),
    ],
)
def test_a_weigher_orders_hosts_that_fit(
    ask: Ask, weights: str, hosts: dict[str, dict[str, object]], expected: list[str]
) -> None:
    assert order(ask, weights, *(host(name, **fields) for name, fields in hosts.items())) == expected


def test_shares_are_weighed_and_summed_up() -> None:
    hosts = [
        host("a", used=Resources(memory_mib=100)),
        host("b", used=Resources(vcpus=10)),
        host("c", used=Resources(memory_mib=50, vcpus=5)),
    ]

    found = placement_for(ASK, hosts, rules_for((), {"memory": 1.0, "cpu": 3.0}, {}))

    assert [(one.host, one.score) for one in found.weighed] == [("a", 3.0), ("c", 2.0), ("b", 1.0)]


def test_spread_and_pack_differ_by_the_sign_of_memory() -> None:
    fuller, emptier = host("a", used=Resources(memory_mib=64)), host("b")

    assert placement_for(ASK, [fuller, emptier], rules_for((), {}, SPREAD)).candidates == (emptier, fuller)
    assert placement_for(ASK, [fuller, emptier], rules_for((), {}, PACK)).candidates == (fuller, emptier)
    assert placement_for(ASK, [fuller, emptier], rules_for((), {"memory": 0.0}, PACK)).weighed[0].score == 0.0


def test_a_weigher_of_weight_nothing_is_not_asked() -> None:
    assert "memory" not in [name for name, _, _ in rules_for((), {"memory": 0.0}).weighers]


def test_chosen_rules_are_asked_in_that_order_and_no_others_but_those_the_others_rely_on() -> None:
    assert [name for name, _ in rules_for(("capacity", "up")).filters] == ["reported", "sane", "capacity", "up"]
    assert [name for name, _ in rules_for(("sane", "up")).filters] == ["reported", "sane", "up"]
    disabled = host("a", disabled_reason="new disks")
    assert placement_for(ASK, [disabled], rules_for(("capacity", "up"))).candidates == (disabled,)


@pytest.mark.parametrize(
    ("filters", "weights", "sentence"),
    [
        (("up", "upp"), {}, "TASKVISOR_FILTERS: 'upp': there is no filter of that name; known: .*capacity.*up"),
        (("up", "up"), {}, "TASKVISOR_FILTERS: up is there twice; leave one out"),
        ((), {"ram": 1.0}, "TASKVISOR_WEIGHTS: 'ram': there is no weigher of that name; known: .*io_workload.*memory"),
        ((), {"ram": 0.0}, "TASKVISOR_WEIGHTS: 'ram': there is no weigher of that name"),
    ],
)
def test_a_wrong_name_is_told_with_those_that_are_known(
    filters: tuple[str, ...], weights: dict[str, float], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        rules_for(filters, weights)


@pytest.mark.parametrize(
    "text", ["memory", "memory=", "memory=much", "memory=nan", "memory=1e99", "a=1,a=2", "Memory=1"]
)
def test_weights_are_names_and_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|is no number"):
        parse_weights(text)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution of somebody else's, installed beside ours."""
    (tmp_path / "stranger_rules.py").write_text(
        "from taskvisor.compute.placement import Refusal\n"
        "def odd(ask):\n"
        "    return lambda host: None if host.instances % 2 else Refusal(reason=f'{host.instances} is even', remedy='one more')\n"
        "def length(ask):\n"
        "    return lambda host: len(host.name)\n"
        "nothing = 3\n"
    )
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[taskvisor.filters]\nodd = stranger_rules:odd\ngone = stranger_rules:gone\nnothing = stranger_rules:nothing\n"
        "[taskvisor.weighers]\nlength = stranger_rules:length\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield info
    sys.modules.pop("stranger_rules", None)


def test_a_strangers_rules_are_chosen_by_name_as_ours_are(stranger: Path) -> None:
    rules = rules_for(("up", "odd"), {"length": -1.0}, {})

    found = placement_for(ASK, [host("aaa", instances=1), host("b", instances=3), host("c", instances=2)], rules)

    assert [one.name for one in found.candidates] == ["b", "aaa"]
    assert [(said.host, said.rule, said.reason) for said in found.verdicts] == [("c", "odd", "2 is even")]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", r"filter gone \(stranger_rules:gone\) can't be loaded: AttributeError"),
        ("nothing", r"filter nothing \(stranger_rules:nothing\) is no function, but int"),
        ("nosuch", "known: .*odd"),
    ],
)
def test_a_strangers_rule_that_can_not_be_used_is_refused_at_start(stranger: Path, name: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        rules_for(("up", name))


def test_a_stranger_may_not_take_the_name_of_one_of_ours(stranger: Path) -> None:
    (stranger / "entry_points.txt").write_text("[taskvisor.filters]\nup = stranger_rules:odd\n")

    with pytest.raises(Refused, match="calls itself up, which is Taskvisor's own"):
        rules_for()


def failing(_: Ask) -> Gauge:
    return lambda host: 1 / host.instances


def test_a_rule_that_fails_for_one_host_costs_that_host_only() -> None:
    rules = Rules(filters=(("odd", lambda _: _divided),), weighers=(("bad", failing, 1.0),))
    hosts = [host("a", instances=0), host("b", instances=2), host("c", instances=1)]

    found = placement_for(ASK, hosts, rules)

    assert [one.name for one in found.candidates] == ["c", "b"]
    assert [(said.host, said.rule, said.reason) for said in found.verdicts] == [
        ("a", "odd", "the rule itself failed: ZeroDivisionError: division by zero"),
    ]


def _divided(host: Host) -> Refusal | None:
    return Refusal(reason="too many", remedy="fewer") if 1 / host.instances < 0.1 else None


def test_a_weigher_that_fails_for_one_host_costs_that_host_only() -> None:
    found = placement_for(
        ASK, [host("a"), host("b", instances=1)], Rules(filters=(), weighers=(("bad", failing, 1.0),))
    )

    assert [one.name for one in found.candidates] == ["b"]
    assert [(said.rule, said.reason) for said in found.verdicts] == [
        ("bad", "the rule itself failed: ZeroDivisionError: division by zero")
    ]


def test_a_number_that_is_none_counts_as_nothing() -> None:
    rules = Rules(filters=(), weighers=(("odd", lambda _: lambda one: math.nan if one.instances else 1.0, 1.0),))

    assert [one.name for one in placement_for(ASK, [host("a", instances=1), host("b")], rules).candidates] == ["b", "a"]


@pytest.mark.parametrize(
    ("found", "requirement", "met"),
    [
        ("64", ">= 64", True),
        ("63", ">= 64", False),
        ("64", "= 60", True),
        ("64", "<= 64", True),
        ("64", "== 64.0", True),
        ("64", "!= 64", False),
        ("", ">= 0", False),
        ("Haswell-noTSX", "<in> Haswell", True),
        ("Haswell", "s== Haswell", True),
        ("Haswell", "s!= Haswell", False),
        ("b", "<or> a <or> b", True),
        ("c", "<or> a <or> b", False),
        ("true", "true", True),
        ("true", "True", False),
    ],
)
def test_requirements_are_read_as_novas_are(found: str, requirement: str, met: bool) -> None:
    assert meets(found, requirement) is met


@pytest.mark.parametrize("requirement", [">=", "== many", "<or> a <or>", "s== ", "<in>"])
def test_a_requirement_that_is_none_is_refused(requirement: str) -> None:
    with pytest.raises(Refused, match=r"needs a value after it|compares numbers"):
        require_requirement("capabilities:x", requirement)
