"""Redis with TLS: nodes, producers, commands, beat and Flower over rediss://, and what each says of wrong certificates."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

from taskvisor.client import Taskvisor
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.settings import Settings, read_settings
from taskvisor.state.connection import open_redis
from tests.cli.conftest import Cli, cli, environment
from tests.deploy.certificates import Authority, Certificate
from tests.deploy.redis_processes import LIMIT_S, Processes, free_port, open_processes
from tests.fixtures.machine import ROOT
from tests.system.nodes import START_LIMIT_S, Nodes, running_nodes, wait_until
from tests.system.test_beat import beating
from tests.system.test_flower import require_hearing, rows, status_of, window
from workers.store_checks import redis_rows

__all__ = ["cli", "environment"]

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = "c1-m64-d1"
ANSWER_LIMIT_S = 120.0
TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Authorities, and Redis servers with certificates of theirs, on loopback."""

    processes: Processes
    ours: Authority
    others: Authority
    ports: dict[str, int] = field(default_factory=dict)

    def start(self, name: str, certificate: Certificate, *options: str) -> None:
        """A server of that name speaks TLS, and nothing but TLS."""
        port = self.ports[name] = free_port()
        directory = self.processes.directory / name
        directory.mkdir()
        words = ["--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
        words += ["--appendonly", "yes", "--tls-cert-file", str(certificate.file)]
        words += ["--tls-key-file", str(certificate.key_file), "--tls-ca-cert-file", str(self.ours.file)]
        self.processes.start(name, "redis-server", *words, *options)
        wait_until(
            lambda: "Ready to accept" in self.processes.said(name), f"{name}: {self.processes.said(name)}", LIMIT_S
        )

    def url(self, server: str, **options: object) -> str:
        """As an operator writes it: rediss://, and behind the ? what TLS takes."""
        query = urlencode({f"ssl_{name}": value for name, value in options.items()}, safe="/")
        return f"rediss://127.0.0.1:{self.ports[server]}/0" + (f"?{query}" if query else "")


NOBODY = ("--tls-auth-clients", "no")
EVERYBODY = ("--tls-auth-clients", "yes")


@pytest.fixture(scope="module")
def tls() -> Iterator[Tls]:
    with open_processes() as processes:
        ours, others = Authority(processes.directory, "ours"), Authority(processes.directory, "others")
        made = Tls(processes=processes, ours=ours, others=others)
        made.start("open", ours.issue("redis", use="server"), *NOBODY)
        made.start("mutual", ours.issue("redis-2", use="server"), *EVERYBODY)
        made.start("expired", ours.issue("former", use="server", ended=True), *NOBODY)
        made.start("elsewhere", ours.issue("elsewhere", use="server", address="127.0.0.2"), *NOBODY)
        yield made


@pytest.fixture(scope="module")
def mutual_url(tls: Tls) -> str:
    """Where only those come in whom the authority knows, and the URL of one of them."""
    client = tls.ours.issue("client", use="client")
    return tls.url("mutual", ca_certs=tls.ours.file, certfile=client.file, keyfile=client.key_file)


@pytest.fixture(scope="module")
def nodes(mutual_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with running_nodes(mutual_url, tmp_path_factory.mktemp("host")) as running:
        yield running


def test_a_build_by_the_client_ends(nodes: Nodes) -> None:
    with Taskvisor(nodes.redis_url) as client:
        handle = client.build(name="by-client", image=IMAGE, flavor=SMALL)
        assert [event.step for event in handle.follow(ANSWER_LIMIT_S)]
        assert handle.wait(ANSWER_LIMIT_S)["vm_state"] == "active"


def test_a_build_by_any_celery_app_ends_though_its_message_needs_many_records_of_tls(nodes: Nodes) -> None:
    asked = nodes.send("instance.build", name="by-celery", image=IMAGE, flavor=SMALL, user_data="#" * 60_000)

    assert asked.get(timeout=ANSWER_LIMIT_S)["vm_state"] == "active"


@pytest.mark.parametrize("words", [("list",), ("hosts",), ("events",), ("ops", "list")], ids=" ".join)
def test_commands_ask_over_tls(nodes: Nodes, cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("TASKVISOR_KEY_PREFIX", "taskvisor:")
    nodes.ask("instance.build", name="for-" + "-".join(words), image=IMAGE, flavor=SMALL)
    use(monkeypatch, nodes.redis_url)

    done = cli(*words)

    assert done.exit_code == 0, done.stderr
    assert "kvm1" in done.stdout


def test_the_command_itself_lists_a_guest(nodes: Nodes) -> None:
    nodes.ask("instance.build", name="seen", image=IMAGE, flavor=SMALL)

    done = run_command(nodes.redis_url, "list", "-f", "value", "-c", "name")

    assert done.returncode == 0, done.stderr
    assert "seen" in done.stdout.split()


def test_beat_sends_its_ticks(nodes: Nodes) -> None:
    with beating(nodes.redis_url, nodes.state_dir, "beat"):
        wait_until(lambda: nodes.redis.exists("taskvisor:tick:slices"), "a tick that beat sent", ANSWER_LIMIT_S)


def test_flower_shows_a_build_and_the_lengths_of_queues(nodes: Nodes) -> None:
    with window(nodes) as url:
        require_hearing(nodes, url)
        nodes.ask("instance.build", name="shown", image=IMAGE, flavor=SMALL)

        wait_until(lambda: len(rows(url, "shown")) >= 6, f"the build: {rows(url)}", ANSWER_LIMIT_S)
        assert status_of(f"{url}/broker") == 200


def test_certificates_are_not_looked_at_where_the_url_says_so(tls: Tls) -> None:
    with Taskvisor(tls.url("expired", cert_reqs="none")) as client:
        assert client.list_images() == ()


def test_celerys_word_for_it_is_understood(tls: Tls) -> None:
    with Taskvisor(tls.url("open", ca_certs=tls.ours.file, cert_reqs="CERT_REQUIRED")) as client:
        assert client.list_images() == ()


@pytest.mark.parametrize("options", [{"cert_reqs": "perhaps"}, {"ca": "/etc/ca.pem"}])
def test_what_tls_does_not_take_is_refused_in_words(tls: Tls, options: dict[str, object]) -> None:
    with (
        pytest.raises(Refused, match="leave out what stands behind its"),
        Taskvisor(tls.url("open", **options)) as client,
    ):
        client.list_images()


def _with_client(tls: Tls, certificate: Certificate) -> str:
    return tls.url("mutual", ca_certs=tls.ours.file, certfile=certificate.file, keyfile=certificate.key_file)


WRONG: dict[str, tuple[Callable[[Tls], str], str]] = {
    "no authority is named": (lambda tls: tls.url("open"), "name the authority that signed Redis' certificate"),
    "another authority": (
        lambda tls: tls.url("open", ca_certs=tls.others.file),
        "name the authority that signed Redis' certificate",
    ),
    "expired": (lambda tls: tls.url("expired", ca_certs=tls.ours.file), "has expired; give Redis a certificate"),
    "another address": (
        lambda tls: tls.url("elsewhere", ca_certs=tls.ours.file),
        "write a host into the URL that the certificate is for",
    ),
    "no file": (lambda tls: tls.url("open", ca_certs="/nowhere/ca.pem"), "does this user read the files"),
    "a file of another kind": (
        lambda tls: tls.url("open", ca_certs=ROOT / "README.md"),
        "are to be certificates in PEM",
    ),
    "no client's certificate": (
        lambda tls: tls.url("mutual", ca_certs=tls.ours.file),
        "wants a client's certificate",
    ),
    "a client of another authority": (
        lambda tls: _with_client(tls, tls.others.issue("stranger", use="client")),
        "wants a client's certificate",
    ),
    "a client's that has expired": (
        lambda tls: _with_client(tls, tls.ours.issue("leaver", use="client", ended=True)),
        "expired",
    ),
    "without TLS": (
        lambda tls: f"redis://127.0.0.1:{tls.ports['open']}/0",
        "The URL of one that speaks TLS begins with rediss://",
    ),
}
"""What is wrong, and what is said of it. Of a client's certificate TLS 1.3 tells after the handshake, and who writes
before it reads sees the connection end: both are told."""


@pytest.mark.parametrize("wrong", WRONG)
def test_whoever_asks_is_told_what_is_wrong_and_what_to_do(
    tls: Tls, cli: Cli, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    url_of, advice = WRONG[wrong]
    url = url_of(tls)

    with Taskvisor(url, timeout_s=TIMEOUT_S) as client:
        for ask in (client.list_images, lambda: client.build(name="web1", image=IMAGE, flavor=SMALL)):
            with pytest.raises(CannotAsk, match=advice) as caught:
                ask()
            assert "\n" not in str(caught.value)
    use(monkeypatch, url)
    for words in (("list",), ("start", "web1")):
        done = cli(*words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert advice in " ".join(done.stderr.split())
    (row,) = redis_rows(Settings(redis_url=url))
    assert row.verdict == "problem"
    assert advice in row.sentence


def test_preflight_says_it_and_ends_with_1(tls: Tls, tmp_path: Path) -> None:
    done = run_command(tls.url("expired", ca_certs=tls.ours.file), "preflight", "-f", "value", state_dir=tmp_path)

    assert done.returncode == 1, done.stderr
    assert "certificate has expired" in done.stdout
    assert "give Redis a certificate that is good" in done.stdout


def test_a_node_says_what_keeps_it_from_starting_and_starts_once_that_is_mended(tls: Tls, tmp_state_dir: Path) -> None:
    tls.start("renewed", tls.ours.issue("old", use="server", ended=True), *NOBODY)
    nodes = Nodes(tls.url("renewed", ca_certs=tls.ours.file), tmp_state_dir, host="kvm1", driver="simulated")
    try:
        nodes.start("control", concurrency=1)
        wait_until(lambda: "redis_not_reached" in nodes.log_tail("control"), "the node to say so", ANSWER_LIMIT_S)
        assert "give Redis a certificate that is good" in nodes.log_tail("control")
        assert nodes.runs("control")

        new = tls.ours.issue("new", use="server")
        with open_redis(tls.url("renewed", cert_reqs="none"), timeout_s=TIMEOUT_S) as operator:
            operator.config_set("tls-cert-file", str(new.file), "tls-key-file", str(new.key_file))
        wait_until(lambda: "control@kvm1 ready" in nodes.log_tail("control"), "the node to be ready", START_LIMIT_S)
    finally:
        nodes.stop()


def test_beat_and_flower_say_what_keeps_them_from_redis(tls: Tls, tmp_state_dir: Path) -> None:
    nodes = Nodes(tls.url("open", ca_certs=tls.others.file), tmp_state_dir, host="kvm1", driver="simulated")
    with beating(nodes.redis_url, tmp_state_dir, "beat") as beat, window(nodes):
        wait_until(lambda: beat.says("name the authority that signed"), "beat to say so", ANSWER_LIMIT_S)
        said = tmp_state_dir / "flower.log"
        wait_until(lambda: "name the authority that signed" in said.read_text(), "Flower to say so", ANSWER_LIMIT_S)


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """This process's commands ask there."""
    monkeypatch.setenv("TASKVISOR_REDIS_URL", url)
    monkeypatch.setenv("TASKVISOR_REDIS_TIMEOUT_S", str(TIMEOUT_S))
    read_settings.cache_clear()


def run_command(url: str, *words: str, state_dir: Path = Path("/tmp")) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "TASKVISOR_REDIS_URL": url,
        "TASKVISOR_STATE_DIR": str(state_dir),
        "TASKVISOR_DRIVER": "simulated",
        "PYTHONPATH": str(ROOT),
    }
    argv = [sys.executable, "-m", "taskvisor.cli", *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=200, check=False)
