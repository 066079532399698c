"""`taskvisor verify --fix`: what is asked for, what is only shown, and how it ends."""

from typing import Any

import pytest

from taskvisor.model.errors import Refused
from tests.cli.book import Book
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker
from tests.cli.test_verify import nothing


@pytest.fixture
def left(book: Book, worker: FakeWorker) -> None:
    """Two names are left by nobody knows whom."""
    book.put_host()
    for name in ("ghost", "spook"):
        book.client.hset(book.keys.names, name, f"no-{name}")
    worker.answers["host.verify"] = nothing


def mended(asked: Asked) -> dict[str, Any]:
    return {**asked.fields, "mended": True, "done": "the name is free"}


@pytest.mark.usefixtures("left")
def test_each_finding_of_the_code_is_one_request(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["fleet.repair"] = mended
    result = cli("verify", "--fix", "name-without-instance", "--yes", "-f", "json")
    assert result.exit_code == 0
    assert [(one["subject"], one["done"]) for one in json_of(result)] == [
        ("ghost", "the name is free"),
        ("spook", "the name is free"),
    ]
    asked = [one.fields for one in worker.asked if one.task == "fleet.repair"]
    assert [one["subject"] for one in asked] == ["ghost", "spook"]
    assert {one["code"] for one in asked} == {"name-without-instance"}


@pytest.mark.usefixtures("left")
def test_one_subject_is_mended_alone_and_what_is_not_found_is_nothing_to_do(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["fleet.repair"] = mended
    cli("verify", "--fix", "name-without-instance", "--subject", "spook", "--yes")
    assert [one.fields["subject"] for one in worker.asked if one.task == "fleet.repair"] == ["spook"]
    none = cli("verify", "--fix", "mac-without-port", "--yes")
    assert none.exit_code == 0
    assert "Nothing was found under mac-without-port: nothing is to be done." in none.stderr


@pytest.mark.usefixtures("left")
def test_a_dry_run_asks_for_nothing_and_says_what_would_be_done(cli: Cli, worker: FakeWorker) -> None:
    result = cli("verify", "--fix", "name-without-instance", "--dry-run")
    assert result.exit_code == 0
    assert "the name is given back" in result.stdout
    assert [one.task for one in worker.asked if one.task == "fleet.repair"] == []


@pytest.mark.usefixtures("left")
def test_without_yes_and_without_anybody_to_answer_nothing_is_asked_for(cli: Cli, worker: FakeWorker) -> None:
    result = cli("verify", "--fix", "name-without-instance")
    assert result.exit_code == 2
    assert "add --yes, or --dry-run" in result.stderr
    assert [one.task for one in worker.asked if one.task == "fleet.repair"] == []


@pytest.mark.usefixtures("left")
def test_what_could_not_be_mended_is_told_and_is_a_failure(cli: Cli, worker: FakeWorker) -> None:
    def refuse(asked: Asked) -> dict[str, Any]:
        if asked.fields["subject"] == "spook":
            raise Refused("name-without-instance spook: operation X holds it")
        return mended(asked)

    worker.answers["fleet.repair"] = refuse
    result = cli("verify", "--fix", "name-without-instance", "--yes", "-f", "json")
    assert result.exit_code == 1
    assert [one["done"] for one in json_of(result)] == [
        "the name is free",
        "not mended: name-without-instance spook: operation X holds it",
    ]


def test_what_only_a_person_can_mend_is_refused_before_anybody_is_asked(cli: Cli) -> None:
    result = cli("verify", "--fix", "directory-missing", "--yes")
    assert result.exit_code == 1
    assert "what was on its disks is not known here. By hand: its disks are lost" in result.stderr


def test_what_goes_with_fix_is_refused_without_it(cli: Cli) -> None:
    for words in (("--yes",), ("--dry-run",), ("--subject", "x")):
        assert cli("verify", *words).exit_code == 2
    assert cli("verify", "--fix", "no-such-code").exit_code == 2
