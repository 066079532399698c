"""How this process writes its log: one line an event, values in fields, on standard error."""

import logging
import sys

import structlog

from taskvisor.settings import Settings
from workers.log_context import add_task_of_celery, bind_to_tasks


def configure_logs(settings: Settings) -> None:
    """structlog and the standard library's loggers (Celery's among them) write alike. Every line bears `host`, this one's name
    unless it speaks of another, and what the task binds that it was written in (`workers/log_context.py`).
    """
    bind_to_tasks()

    def add_host(_: object, __: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
        line.setdefault("host", settings.host)
        return line

    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_host,
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
            foreign_pre_chain=[*shared, add_task_of_celery],
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
