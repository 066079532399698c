"""All of Celery that the client uses: requests out, results in. Knows tasks and results by their names only.

Celery is imported at first use: it takes half a second, which `import taskvisor.client` should not.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskvisor.client.fork_gate import GATE
from taskvisor.model.queues import COMPUTE_QUEUE

if TYPE_CHECKING:
    from celery.result import AsyncResult

PUBLISH_RETRIES = 1
PUBLISHERS_LIMIT = 10
"""Threads that publish at once; further ones wait for their turn."""
REDACTED_FIELDS = ("user_data", "ssh_keys")
"""Not for the eyes of those who look at messages in Flower."""


class Door:
    """An app that is nobody's current app, a pool of producers, and the result backend.

    Both are made by hand. `app.backend` stays disabled, because with Redis behind it `send_task` subscribes to each
    request's result, and retries that for minutes when Redis is away.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        with GATE.pass_through():
            self._open(url, timeout_s)

    def _open(self, url: str, timeout_s: float) -> None:
        from celery import Celery  # noqa: PLC0415 - see above
        from celery.app.backends import by_url  # noqa: PLC0415
        from celery.result import AsyncResult  # noqa: PLC0415
        from kombu.connection import Connection  # noqa: PLC0415
        from kombu.exceptions import OperationalError  # noqa: PLC0415
        from kombu.pools import ProducerPool  # noqa: PLC0415

        self._app = Celery("taskvisor-client", set_as_current=False, config_source=_config_for(timeout_s))
        self._app.backend_cls = "disabled"
        backend_class, backend_url = by_url(url, self._app.loader)
        self._backend = backend_class(app=self._app, url=backend_url)
        self._result_class = AsyncResult
        limits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        connection = Connection(url, connect_timeout=timeout_s, transport_options=limits)  # type: ignore[no-untyped-call]
        self._connections = connection.Pool(limit=PUBLISHERS_LIMIT)  # type: ignore[no-untyped-call]
        self._producers = ProducerPool(self._connections, limit=PUBLISHERS_LIMIT)  # type: ignore[no-untyped-call]
        silence = (OperationalError, *self._backend.connection_errors)
        self.silence: tuple[type[Exception], ...] = tuple(kind for kind in silence if kind is not KeyError)
        """What the transport and the back end raise when Redis does not answer, or does not let us."""

    def send(
        self,
        task: str,
        fields: dict[str, object],
        operation_id: str,
        *,
        queue: str = COMPUTE_QUEUE,
        expires_s: float | None = None,
    ) -> None:
        shown = {name: "…" if name in REDACTED_FIELDS else value for name, value in fields.items()}
        with GATE.pass_through(), self._producers.acquire(block=True) as producer:  # type: ignore[no-untyped-call]
            self._app.send_task(
                task,
                kwargs=fields,
                kwargsrepr=repr(shown)[:1024],
                task_id=operation_id,
                queue=queue,
                expires=expires_s,
                producer=producer,
                add_to_parent=False,
                headers=_headers_of_trace(),
                retry=True,
                retry_policy={"max_retries": PUBLISH_RETRIES, "interval_start": 0, "interval_max": 0.2},
            )

    def result(self, operation_id: str) -> "AsyncResult[Any]":
        return self._result_class(operation_id, backend=self._backend, app=self._app)

    def read(self, operation_id: str) -> Mapping[str, Any]:
        """What the back end has under the id now: `status` and `result`."""
        with GATE.pass_through():
            meta: Mapping[str, Any] = self._backend.get_task_meta(operation_id, cache=False)
        return meta

    def close(self) -> None:
        self._producers.force_close_all()  # type: ignore[no-untyped-call]
        self._connections.force_close_all()
        self._backend.client.close()
        self._app.close()


def _headers_of_trace() -> dict[str, str]:
    """The caller's part of a trace, in W3C's `traceparent`; nothing when it has not loaded OpenTelemetry itself."""
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - see above

        TraceContextTextMapPropagator().inject(headers)
    return headers


def _config_for(timeout_s: float) -> dict[str, object]:
    return {
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "redis_socket_timeout": timeout_s,
        "redis_socket_connect_timeout": timeout_s,
    }
