"""What a machine lacks as a host is a table: each check says what is so, whatever the others do."""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from taskvisor.cli import preflight as command
from taskvisor.cli.app import app
from taskvisor.model.preflight import CheckRow, Verdict
from taskvisor.settings import Settings
from virt.file_system import parse_mounts, read_file_system
from workers import machine_checks, preflight
from workers.machine_checks import ModuleState, disk_rows, limit_rows, module_state
from workers.preflight import list_problems, list_rows, table_of
from workers.store_checks import identity_rows, skew_rows


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, state_dir=tmp_path, driver="simulated", host="h1", allow_volatile_redis=True)


def verdicts(rows: tuple[CheckRow, ...]) -> dict[str, Verdict]:
    return {row.check: row.verdict for row in rows}


def test_a_fit_machine_has_a_row_for_each_check(settings: Settings) -> None:
    rows = list_rows(settings)

    assert [row.check for row in rows if row.verdict is Verdict.PROBLEM] == []
    assert {"redis", "redis latency", "clock", "identity", "state directory", "open files", "processes"} <= {
        row.check for row in rows
    }
    assert verdicts(rows)["clock"] is Verdict.OK


def test_a_silent_redis_is_one_problem_and_hinders_no_other_check(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/none.sock"})

    found = verdicts(list_rows(away))

    assert found["redis"] is Verdict.PROBLEM
    assert (found["clock"], found["identity"], found["redis latency"]) == (Verdict.WARNING,) * 3
    assert "state directory" in found


def _hangs(_: Settings) -> Iterator[CheckRow]:
    time.sleep(3600)
    yield CheckRow(check="never", found="never")


def _dies(_: Settings) -> Iterator[CheckRow]:
    os.kill(os.getpid(), 9)
    yield CheckRow(check="never", found="never")


def _fine(_: Settings) -> Iterator[CheckRow]:
    yield CheckRow(check="fine", found="it is")


def test_a_check_that_hangs_or_dies_is_a_row_and_the_others_are_heard(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_checks_for", lambda _: {"one": _hangs, "two": _dies, "fine": _fine})
    monkeypatch.setattr(preflight, "CHECK_LIMIT_S", 3.0)

    rows = list_rows(settings)

    assert verdicts(rows) == {"one": Verdict.PROBLEM, "two": Verdict.PROBLEM, "fine": Verdict.OK}
    assert "no answer within 3 s" in rows[0].found
    assert [sentence.partition(";")[0] for sentence in list_problems(settings)] == [row.found for row in rows[:2]]


@pytest.mark.parametrize(
    ("skew_s", "verdict"), [(0.0, "ok"), (1.9, "ok"), (-1.9, "ok"), (2.1, "warning"), (-3600.0, "warning")]
)
def test_a_clock_that_is_off_is_a_warning(skew_s: float, verdict: str) -> None:
    (row,) = skew_rows(skew_s)
    assert row.verdict.value == verdict


def test_an_identity_that_would_refuse_the_start_is_a_problem(settings: Settings) -> None:
    (settings.state_dir / "identity.json").write_text("{")
    (row,) = identity_rows(settings)
    assert (row.verdict, "is no identity of a host" in row.found) == (Verdict.PROBLEM, True)


def test_the_disk_of_the_state_is_told(settings: Settings) -> None:
    found = read_file_system(settings.state_dir)
    assert found.kind != "unknown"
    assert settings.state_dir.resolve().is_relative_to(found.mount_point)
    assert found.kind in next(iter(disk_rows(settings))).found
    assert list(settings.state_dir.iterdir()) == []


def test_the_mount_on_top_is_found_and_blanks_are_read() -> None:
    text = (
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 21 0:40 / /var/lib/task\\040visor rw,nosuid shared:7 - xfs /dev/sdb rw\n"
        "31 30 0:41 / /var/lib/task\\040visor rw - tmpfs tmpfs rw\n"
        "32 21 0:42 / /var/lib/tasks rw - nfs4 filer:/x rw\n"
    )
    assert parse_mounts(text, Path("/var/lib/task visor/instances")) == ("tmpfs", "/var/lib/task visor")
    assert parse_mounts(text, Path("/srv")) == ("ext4", "/")


@pytest.mark.parametrize(
    ("kind", "free_bytes", "said"),
    [("ext4", 1 << 40, ""), ("tmpfs", 1 << 40, "lost at a reboot"), ("nfs4", 1 << 40, "local"), ("xfs", 1, "free at")],
)
def test_where_state_is_not_safe_it_is_said(kind: str, free_bytes: int, said: str) -> None:
    advice = machine_checks._disk_advice(kind, free_bytes)
    assert (said in advice) if said else advice == ""


def test_few_open_files_are_a_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    found = verdicts(tuple(limit_rows(settings)))
    assert (found["open files"], found["processes"]) == (Verdict.PROBLEM, Verdict.WARNING)


def test_a_module_is_loaded_built_in_loadable_absent_or_not_to_be_told(tmp_path: Path) -> None:
    loaded, modules = tmp_path / "sys", tmp_path / "modules"
    (loaded / "vhost_net").mkdir(parents=True)
    where = {"modules": modules, "loaded": loaded}
    assert module_state("vxlan", **where) is ModuleState.UNKNOWN
    ours = modules / os.uname().release
    ours.mkdir(parents=True)
    (ours / "modules.builtin").write_text("kernel/net/8021q/8021q.ko\n")
    (ours / "modules.dep").write_text("kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\n")
    names = ("vhost_net", "8021q", "vxlan", "iscsi_tcp")
    wanted = [ModuleState.LOADED, ModuleState.BUILT_IN, ModuleState.LOADABLE, ModuleState.ABSENT]
    assert [module_state(name, **where) for name in names] == wanted


def test_the_table_says_what_is_and_what_to_do() -> None:
    rows = (
        CheckRow(check="kvm", found="is there"),
        CheckRow(check="x", found="bad", verdict=Verdict.PROBLEM, advice="go"),
    )
    assert table_of(rows).splitlines()[1:] == ["kvm    ok       is there", "x      problem  bad -> go"]


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.OK, 0), (Verdict.WARNING, 0), (Verdict.PROBLEM, 1)])
def test_the_command_shows_what_its_program_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verdict: Verdict, code: int
) -> None:
    rows = (CheckRow(check="kvm", found="so it is", verdict=verdict, advice="do this"),)
    monkeypatch.setenv("TASKVISOR_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(command, "run_briefly", lambda *_, **__: (code, msgspec.json.encode(rows).decode()))

    table = CliRunner().invoke(app, ["preflight"])
    as_json = CliRunner().invoke(app, ["preflight", "-f", "json"])

    assert (table.exit_code, as_json.exit_code) == (code, code)
    assert all(word in table.output for word in ("kvm", "so it is", verdict.value, "do this"))
    assert msgspec.json.decode(as_json.output, type=tuple[CheckRow, ...]) == rows
