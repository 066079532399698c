"""`taskvisor webhooks`: the sender of signed events, how far it is with each URL, and what it had to give up."""

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.quantities import age_text, time_text
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, report, say, show_rows
from taskvisor.cli.signals import STOPPING, Signals, receiving_signals
from taskvisor.model.errors import Refused
from taskvisor.model.webhook import Standing, Undelivered
from taskvisor.model.webhook_urls import parse_webhook_urls
from taskvisor.settings import Settings
from taskvisor.state.events import order_of
from taskvisor.webhooks.courier import key_for
from taskvisor.webhooks.signing import parse_keys

if TYPE_CHECKING:
    from taskvisor.webhooks.sender import Sender, SenderOptions

LOOK_S = 1.0

app = typer.Typer(help="Events as signed HTTP requests: the sender, and what became of them.", no_args_is_help=True)


@app.command()
def run() -> None:
    """Send every event to the configured URLs, until SIGTERM or ctrl-C. More than one may run: of each URL one has the turn."""
    from taskvisor.webhooks.sender import open_sender  # noqa: PLC0415 - httpx, for which no other command should wait

    settings = settings_or_usage_error()
    options = options_of(settings)
    _configure_logs(settings)
    with open_records(settings):
        pass  # a Redis that is not there, or does not let us, is told now and not again and again
    with receiving_signals() as signals, open_sender(options) as sender:
        report(f"webhooks: {len(options.urls)} URLs; stop with ctrl-C or SIGTERM")
        _attend(sender, signals)
        report("webhooks: stopping; what is under way is ended first")
    if sender.fallen:
        raise typer.Exit(ExitCode.FAILED)


def _attend(sender: "Sender", signals: Signals) -> None:
    """Until somebody stops us, or a courier has fallen: whoever started us starts us anew."""
    while not sender.fallen:
        if signals.take(wait_s=LOOK_S) in STOPPING:
            return


@app.command()
def status(form: FormatOption = Format.TABLE) -> None:
    """Show how far each URL is. KEY stands for the URL, which is shown without what may be secret in it."""
    settings = settings_or_usage_error()
    configured = {key_for(url) for url in parse_webhook_urls(settings.webhook_urls)}
    with open_records(settings) as records:
        standings, newest = records.webhooks.list_standings(), records.events.read_bounds().newest
    show_rows(
        form,
        ("KEY", "URL", "#BEHIND", "#DELIVERED", "#GIVEN UP", "#TRIES", "STATE"),
        [_status_row(one, newest, one.key in configured) for one in standings],
        [{**asdict(one), "configured": one.key in configured} for one in standings],
        empty="Nothing was ever sent. Set TASKVISOR_WEBHOOK_URLS and run `taskvisor webhooks run`.",
    )


def _status_row(one: Standing, newest: str, configured: bool) -> tuple[str, ...]:
    behind_s = max(0.0, (order_of(newest)[0] - order_of(one.cursor)[0]) / 1000)
    state = one.reason or "up to date"
    if not one.reason and one.cursor != newest:
        state = "sending"
    return (
        one.key,
        one.url,
        age_text(behind_s),
        str(one.delivered),
        str(one.given_up),
        str(one.tries),
        state if configured else f"not configured here; {state}",
    )


@app.command("log")
def show_log(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="So many of the latest.")] = 100,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show events that were given up, the latest first, with the reason."""
    with open_records(settings_or_usage_error()) as records:
        found = records.webhooks.list_undelivered(limit)
    show_rows(
        form,
        ("WHEN", "URL", "CURSOR", "EVENT", "#TRIES", "WHY"),
        map(_log_row, found),
        map(asdict, found),
        empty="Every event was delivered, or waits for its next try.",
    )


def _log_row(one: Undelivered) -> tuple[str, ...]:
    return (time_text(one.at), one.url, one.cursor, one.event or "-", str(one.tries), one.reason)


@app.command()
def forget(key: Annotated[str, typer.Argument(help="Of a URL, as `taskvisor webhooks status` shows it.")]) -> None:
    """Forget how far a URL is: should it be configured again, it begins with what is new then."""
    with open_records(settings_or_usage_error()) as records:
        if all(one.key != key for one in records.webhooks.list_standings()):
            raise UsageError(f"there is no webhook {key!r}; see `taskvisor webhooks status`")
        records.webhooks.forget(key)
    say(f"Forgotten: {key}")


def options_of(settings: Settings) -> "SenderOptions":
    """What the sender needs. UsageError when there are no URLs, or the keys can't be read; no key is shown."""
    from taskvisor.webhooks.sender import SenderOptions  # noqa: PLC0415 - as in `run`

    urls = parse_webhook_urls(settings.webhook_urls)
    if not urls:
        raise UsageError("TASKVISOR_WEBHOOK_URLS names no URL: there is nothing to send to")
    path = Path(settings.webhook_secret_file)
    try:
        keys = parse_keys(path.read_text("ascii"))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no ASCII text"
        raise UsageError(f"TASKVISOR_WEBHOOK_SECRET_FILE={path}: {why}") from error
    except Refused as problem:
        raise UsageError(f"TASKVISOR_WEBHOOK_SECRET_FILE={path}: {problem}") from problem
    return SenderOptions(
        urls=urls,
        keys=keys,
        redis_url=settings.redis_url,
        key_prefix=settings.key_prefix,
        redis_timeout_s=settings.redis_timeout_s,
        timeout_s=settings.webhook_timeout_s,
        keep_s=settings.webhook_keep_s,
        log_kept=settings.webhook_log_kept,
    )


def _configure_logs(settings: Settings) -> None:
    """As nodes log: one line an event on standard error."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs every URL with all that is in it
