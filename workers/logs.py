"""How this process writes its log: one line an event, values in fields, on standard error."""

import logging
import sys

import structlog

from taskvisor.settings import Settings


def configure_logs(settings: Settings) -> None:
    """structlog and the standard library's loggers (Celery's among them) write alike."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    for chatty in ("celery.app.trace", "celery.worker.strategy", "celery.redirected"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # each task twice; our own events say what happened
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
