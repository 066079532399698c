"""Whether this process tells of traces, by its settings. Loads OpenTelemetry only then."""

from typing import TYPE_CHECKING

from tasks.tracing import NO_TRACING, Tracing
from taskvisor.model.errors import Refused
from taskvisor.settings import Settings
from taskvisor.state.keys import Keys
from taskvisor.state.traces import Traces

if TYPE_CHECKING:
    import redis


def require_tracing(settings: Settings) -> None:
    """Refused, in words, when traces are asked for and what it takes is not installed."""
    if settings.traces == "off":
        return
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415 - what is asked is whether they are there
        import opentelemetry.sdk  # noqa: F401, PLC0415
    except ImportError as error:
        raise Refused(
            f"TASKVISOR_TRACES={settings.traces} needs OpenTelemetry, and {error.name} is not installed: pip install"
            " 'taskvisor[otel]' on this host, or set TASKVISOR_TRACES=off"
        ) from error


def open_tracing(settings: Settings, client: "redis.Redis") -> Tracing:
    """This process's. Refused as above."""
    require_tracing(settings)
    if settings.traces == "off":
        return NO_TRACING
    from workers.tracing import OtelTracing, open_provider  # noqa: PLC0415 - half a second, and 15 MiB

    traces = Traces(client, Keys(settings.key_prefix), keep_s=settings.operation_keep_s)
    return OtelTracing(open_provider(settings), traces, settings.host)
