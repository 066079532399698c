"""`taskvisor launch --spec`: what is written is asked for, and what breaks a rule is named: document, field and rule."""

import json
from pathlib import Path

import pytest

from taskvisor.cli.spec_file import DOCUMENTS_LIMIT, FILE_LIMIT_BYTES
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

ONE = "name: web-1\nimage: /srv/x.qcow2\nflavor: c1-m128-d1\n"
TWO = f"---\n{ONE}metadata: {{role: web}}\n---\nname: web-2\nimage: golden\nflavor: c1-m128-d1\n"


def launched(asked: Asked) -> object:
    return {"id": asked.operation_id, "name": asked.fields["name"], "host": "host-1", "addresses": ["10.0.0.2"]}


def test_each_document_is_a_request(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["instance.build"] = launched
    result = cli("launch", "--spec", "-", "-f", "value", "-c", "name", "-c", "addresses", stdin=TWO)
    assert (result.exit_code, result.stdout) == (0, "web-1 10.0.0.2\nweb-2 10.0.0.2\n")
    assert [one.fields["name"] for one in worker.asked] == ["web-1", "web-2"]
    assert worker.asked[0].fields["metadata"] == {"role": "web"}


def test_json_will_do_and_one_document_is_one_object(cli: Cli, worker: FakeWorker, tmp_path: Path) -> None:
    worker.answers["instance.build"] = launched
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"name": "web-1", "image": "/srv/x.qcow2", "flavor": "c1-m128-d1"}, indent=1))
    result = cli("launch", "--spec", str(file), "--id", "mine", "-f", "json")
    assert json_of(result)["operation"] == "mine"


def test_the_same_file_under_the_same_id_is_the_same_requests(cli: Cli, worker: FakeWorker, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(TWO)
    for _ in range(2):
        result = cli("launch", "--spec", str(file), "--id", "mine", "--no-wait", "-f", "value", "-c", "operation")
        assert result.stdout == "mine-1\nmine-2\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no document"),
        ("---\n---\n", "holds no document"),
        ("- a\n- b\n", "document 1: must be fields with values"),
        ("name: web-1\n", "document 1: image: missing; it must be given"),
        (f"{ONE}colour: red\n", "document 1: colour: unknown field; remove it or check its spelling"),
        (f"{ONE}---\nname: -x\nimage: golden\n", "document 2: name: '-x': must be 1 to 63 letters"),
        (f"{ONE}---\n{ONE}", "documents 1 and 2: name: 'web-1': is there twice"),
        ("name: [web\n", "line 2, column 1: is neither YAML nor JSON"),
        ("name: !!python/object:os.system x\n", "is neither YAML nor JSON: could not determine a constructor"),
        ("name: 2026-13-45\n", "is neither YAML nor JSON: month must be in 1..12"),
        ("name: 12\nimage: golden\n", "document 1: name: 12"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(8)),
            "comes to more than 100000 values",
        ),
        ("&a\nname: *a\n", "document 1"),
        ("x: \x00\n", "is neither YAML nor JSON"),
    ],
)
def test_what_breaks_a_rule_is_named_and_nothing_is_sent(cli: Cli, worker: FakeWorker, text: str, said: str) -> None:
    result = cli("launch", "--spec", "-", stdin=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "--spec -" in result.stderr
    assert worker.asked == []


def test_what_is_not_there_too_large_or_too_many_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert "can't be read: No such file" in cli("launch", "--spec", str(tmp_path / "none")).stderr
    large = tmp_path / "large"
    large.write_bytes(b"#" * (FILE_LIMIT_BYTES + 1))
    assert "is larger than" in cli("launch", "--spec", str(large)).stderr
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in cli("launch", "--spec", str(binary)).stderr
    many = tmp_path / "many"
    many.write_text("".join(f"---\nname: w{n}\n" for n in range(DOCUMENTS_LIMIT + 1)))
    assert f"holds more than {DOCUMENTS_LIMIT} documents" in cli("launch", "--spec", str(many)).stderr


@pytest.mark.parametrize("words", [("--name", "x"), ("--host", "h"), ("golden",), ("--count", "2"), ("-t", "m1.tiny")])
def test_the_file_is_the_whole_request(cli: Cli, words: tuple[str, ...]) -> None:
    result = cli("launch", "--spec", "-", *words, stdin=ONE)
    assert result.exit_code == 2
    assert "goes into the file; --spec is the whole request" in result.stderr


def test_without_a_file_image_and_name_are_needed(cli: Cli) -> None:
    assert "IMAGE and --name say what to make; or --spec FILE" in cli("launch", "golden").stderr
    assert cli("launch", "--name", "x").exit_code == 2


def test_each_is_planned_before_any_is_sent(cli: Cli, worker: FakeWorker) -> None:
    plan = {"host": "host-1", "disks": [], "nics": [], "xml": "<domain/>", "allocated": [], "placement": {}}
    worker.answers["instance.plan"] = lambda _: plan
    result = cli("launch", "--spec", "-", "--dry-run", "-f", "value", stdin=TWO)
    assert result.stdout == "web-1 host-1\nweb-2 host-1\n"
    assert {one.task for one in worker.asked} == {"instance.plan"}
