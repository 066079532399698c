"""The dashboard and the alert rules ask for metrics and labels that are told, and each alert leads to what is to be done."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import yaml

from taskvisor.state.keys import Keys
from tests.fixtures.machine import ROOT
from workers.metrics import StoreCollector

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "taskvisor.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
WORD = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
SERIES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
AFTER_NAME = re.compile(r"(taskvisor_[a-z0-9_]+)(?:\{([^}]*)\})?")
GROUPED_BY = re.compile(r"\bby \(([^)]*)\)")
FLEETS_OWN = {"le"}


def told() -> dict[str, set[str]]:
    """Every series that a control node may tell, with its labels."""
    families = StoreCollector(redis.Redis(), Keys("")).describe()
    return {
        family.name + suffix: set(getattr(family, "_labelnames", ())) | FLEETS_OWN
        for family in families
        for suffix in SERIES[family.type]
    }


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["definition"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_asks_for_what_is_told(where: str, query: str) -> None:
    series = told()
    asked = AFTER_NAME.findall(query)

    assert asked
    assert [name for name, _ in asked if name not in series] == []
    matched = {(name, label) for name, matchers in asked for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)}
    assert [(name, label) for name, label in sorted(matched) if label not in series[name]] == []
    known = set.union(*(series[name] for name, _ in asked))
    grouped = {word for words in GROUPED_BY.findall(query) for word in WORD.findall(words)}
    assert grouped <= known, f"{where} groups by a label that none of its metrics has"


@pytest.mark.parametrize("panel", [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"], ids=str)
def test_a_legend_names_labels_that_its_query_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        kept = {word for words in GROUPED_BY.findall(target["expr"])[:1] for word in WORD.findall(words)}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def headings() -> set[str]:
    """The anchors of docs/runbook.md, as GitHub and mkdocs make them."""
    page = (ROOT / "docs" / "runbook.md").read_text()
    texts = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_a_heading_of_the_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert page == "docs/runbook.md"
    assert anchor in headings()
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]


def test_every_heading_of_the_alerts_has_its_alert() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text()
    section = page[page.index("\n## Alerts\n") : page.index("\n## STUCK\n")]
    named = set(re.findall(r"`(Taskvisor[A-Za-z]+)`", section))

    assert named == {rule["alert"] for rule in RULES}
