"""The CPU that guests can be shown, from what libvirt says."""

import pytest
from lxml import etree

from taskvisor.model.errors import UnreadableRecord
from tests.virt.capabilities import read_capabilities
from virt.host_cpu import parse_cpu, parse_shown_cpu


def test_it_is_what_host_model_gives() -> None:
    shown = parse_shown_cpu(read_capabilities("qemu-7.2-q35"), "x86_64")
    assert shown is not None
    cpu = etree.fromstring(shown)
    assert [cpu.findtext(part) for part in ("arch", "model", "vendor")] == ["x86_64", "EPYC", "AMD"]
    model, features = parse_cpu(shown)
    assert model == "EPYC"
    assert {"acpi", "mpx"} <= features


def test_features_that_are_taken_away_are_not_among_them() -> None:
    cpu = "<cpu><model>EPYC</model><feature policy='disable' name='svm'/><feature name='avx2'/></cpu>"
    assert parse_cpu(cpu) == ("EPYC", frozenset({"avx2"}))


@pytest.mark.parametrize(
    "cpu",
    ["", "<cpu><mode name='host-model' supported='no'/></cpu>", "<cpu><mode name='host-model' supported='yes'/></cpu>"],
)
def test_where_there_is_no_such_mode_nothing_is_said(cpu: str) -> None:
    assert parse_shown_cpu(f"<domainCapabilities>{cpu}</domainCapabilities>", "x86_64") is None


def test_what_is_none_is_unreadable() -> None:
    with pytest.raises(UnreadableRecord):
        parse_shown_cpu("<capabilities/>", "x86_64")
    with pytest.raises(UnreadableRecord):
        parse_cpu("no XML")
