"""`taskvisor webhooks`: what it says, and what it refuses. That it delivers is in tests/system/test_webhooks.py."""

from pathlib import Path

import pytest

from taskvisor.model.webhook import Standing, Undelivered
from taskvisor.settings import read_settings
from taskvisor.state.webhooks import Webhooks
from taskvisor.webhooks.courier import key_for
from tests.cli.book import Book, instance, operation
from tests.cli.conftest import Cli, json_of
from tests.webhooks.receiver import SECRET

URL = "https://hooks.example/x?token=geheim"


@pytest.fixture
def configured(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One URL and a secret file."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    monkeypatch.setenv("TASKVISOR_WEBHOOK_URLS", URL)
    monkeypatch.setenv("TASKVISOR_WEBHOOK_SECRET_FILE", str(path))
    read_settings.cache_clear()
    return path


@pytest.fixture
def webhooks(book: Book) -> Webhooks:
    found = Webhooks(book.client, book.keys, log_kept=10)
    for key in (key_for(URL), "other"):
        assert found.take_turn(key, "t", keep_s=60)
    return found


def test_how_far_each_url_is(cli: Cli, configured: Path, webhooks: Webhooks, book: Book) -> None:
    book.put_operation(operation("op", instance("web-1")))
    (newest,) = book.event_cursors()
    standing = Standing(key=key_for(URL), url="https://hooks.example/x", cursor=newest, delivered=7)
    assert webhooks.write(standing, "t")
    late = Standing(key="other", url="http://z/", cursor="1-0", tries=3, reason="it answered 500", given_up=2)
    assert webhooks.write(late, "t")

    lines = [line.split("  ") for line in cli("webhooks", "status").stdout.splitlines()]

    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines[1:]]
    assert rows[1] == [key_for(URL), "https://hooks.example/x", "0s", "7", "0", "0", "up to date"]
    assert rows[0][3:] == ["0", "2", "3", "not configured here; it answered 500"]
    views = json_of(cli("webhooks", "status", "-f", "json"))
    assert [(view["key"], view["configured"]) for view in views] == [("other", False), (key_for(URL), True)]
    assert cli("webhooks", "forget", "other").exit_code == 0
    assert len(json_of(cli("webhooks", "status", "-f", "json"))) == 1
    assert cli("webhooks", "forget", "other").exit_code == 2


def test_what_was_given_up_is_shown_with_the_reason(cli: Cli, webhooks: Webhooks) -> None:
    lost = Undelivered(
        url="http://z/", cursor="1-0", event="instance.build.running", tries=3, reason="it answered 500", at=1.0
    )
    assert webhooks.write(Standing(key="other", url="http://z/", cursor="1-0"), "t", undelivered=lost)
    assert "http://z/  1-0     instance.build.running      3  it answered 500" in cli("webhooks", "log").stdout
    assert json_of(cli("webhooks", "log", "-f", "json"))[0]["reason"] == "it answered 500"


def test_without_anything_sent_that_is_said(cli: Cli, environment: dict[str, str]) -> None:
    assert "Nothing was ever sent" in cli("webhooks", "status").stderr
    assert "Every event was delivered" in cli("webhooks", "log").stderr


@pytest.mark.parametrize(
    ("urls", "secret", "problem"),
    [
        ("", SECRET, "TASKVISOR_WEBHOOK_URLS names no URL"),
        ("ftp://x/", SECRET, "number 1 is none"),
        ("http://a/ file:///etc/passwd", SECRET, "number 2 is none"),
        ("http://a:port/", SECRET, "WEBHOOK_URLS"),
        (" ".join(f"http://a/{number}" for number in range(17)), SECRET, "at most 16 URLs"),
        (URL, None, "No such file"),
        (URL, "geheim", "does not begin with whsec_"),
        (URL, "", "1 to 4 keys are needed"),
        (URL, "gehéim", "no ASCII"),
    ],
)
def test_a_sender_that_can_not_send_does_not_start(
    cli: Cli, configured: Path, monkeypatch: pytest.MonkeyPatch, urls: str, secret: str | None, problem: str
) -> None:
    monkeypatch.setenv("TASKVISOR_WEBHOOK_URLS", urls)
    configured.unlink() if secret is None else configured.write_text(secret)
    read_settings.cache_clear()
    result = cli("webhooks", "run")
    assert result.exit_code == 2
    assert problem in result.stderr
    assert "geheim" not in result.stderr


def test_urls_without_a_secret_are_a_usage_error(
    cli: Cli, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKVISOR_WEBHOOK_URLS", "http://a/")
    read_settings.cache_clear()
    result = cli("webhooks", "run")
    assert result.exit_code == 2
    assert "needs TASKVISOR_WEBHOOK_SECRET_FILE" in result.stderr
