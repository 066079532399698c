"""The class of the client: what it has open, how it sends and how it reads. Its requests are mixed in, a module a theme."""

from __future__ import annotations  # what requests come to is imported by who checks types only

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taskvisor.client.fleet import FleetRequests
from taskvisor.client.fork_gate import GATE
from taskvisor.client.handle import Handle
from taskvisor.client.hosts import HostRequests
from taskvisor.client.images import ImageRequests
from taskvisor.client.instances import InstanceRequests
from taskvisor.client.networks import NetworkRequests
from taskvisor.client.opened import Connections
from taskvisor.client.record_reads import RecordReads
from taskvisor.model.errors import CannotAsk, Unauthorised
from taskvisor.model.queues import COMPUTE_QUEUE, control_queue
from taskvisor.model.urls import celery_url_for, require_redis_url

if TYPE_CHECKING:
    from taskvisor.client.handle import Outcome
    from taskvisor.fields import (
        KeptView,
        RepairView,
        WishView,
    )
    from taskvisor.model.operation import Operation
    from taskvisor.state.keys import Keys

DEFAULT_KEY_PREFIX = "taskvisor:"


class Taskvisor(InstanceRequests, ImageRequests, NetworkRequests, FleetRequests, HostRequests, RecordReads):
    """Asks for operations. Safe in threads; after a fork it opens its connections anew. Close it, or use it with `with`.

    `redis_url` is redis://, rediss://, unix:///path?db=0 or Celery's redis+socket:///path?virtual_host=0; without one, that
    of TASKVISOR_REDIS_URL, else of the settings' default. Refused for another kind of URL. Nothing is asked of Redis before
    the first request.

    Every request returns once it is in the queue, which takes at most about twice `timeout_s`; CannotAsk when Redis did
    not take it, and then it may be there all the same: ask again with the same `operation_id`. The same id is the same
    operation, however often it is asked.
    """

    def __init__(self, redis_url: str | None = None, *, timeout_s: float = 5.0, key_prefix: str | None = None) -> None:
        """`key_prefix`: TASKVISOR_KEY_PREFIX of the workers, by which records are read. Without a URL it is read as that is."""
        if redis_url is None:
            redis_url, configured_prefix = _configured()
            key_prefix = key_prefix or configured_prefix
        self._key_prefix = key_prefix or DEFAULT_KEY_PREFIX
        self._connections = Connections(celery_url_for(require_redis_url(redis_url)), timeout_s)

    def __enter__(self) -> Taskvisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The connections are closed. A later request opens new ones."""
        self._connections.close()

    def cancel(self, operation: str) -> Handle[WishView]:
        """Ask an operation to stop and roll back. The returned handle is of the wish, not of the operation."""
        return self._ask("operation.cancel", {"operation": operation}, None)

    def retry(self, operation: str) -> Handle[WishView]:
        """Let a stuck or kept operation go on, or one that was rolled back begin again. The returned handle is of the wish."""
        return self._ask("operation.retry", {"operation": operation}, None)

    def repair(
        self, code: str, subject: str, *, host: str | None = None, operation_id: str | None = None
    ) -> Handle[RepairView]:
        """Ask for one finding of `taskvisor verify` to be mended, where that is safe: looked at anew, then mended or left alone.

        Its caller is refused, with what to do by hand, where it is not.
        """
        return self._ask("fleet.repair", {"code": code, "subject": subject, "host": host}, operation_id)

    def keep_orphan(self, orphan: str, *, host: str | None = None, operation_id: str | None = None) -> Handle[KeptView]:
        """Ask for what is in quarantine under that name, or is of the instance of that id, to be left alone for good."""
        return self._ask("fleet.keep_orphan", {"orphan": orphan, "host": host}, operation_id)

    def handle(self, operation_id: str) -> Handle[Any]:
        """The handle of an operation that was asked for before, by anyone."""
        return Handle(self._connections.opened().door.result(operation_id), self)

    def read_result(self, request_id: str) -> Mapping[str, Any]:
        """What Celery's back end has of a request now: `status` and `result`. `Handle.look` says it in our words. CannotAsk."""
        with self.asking(f"read the result of operation {request_id}"):
            return self._connections.opened().door.read(request_id)

    def read_operation(self, request_id: str) -> Operation | None:
        """The operation's record; None when there is none (yet, or any more). CannotAsk."""
        with self._records() as (client, keys):
            from taskvisor.model.ids import OperationId  # noqa: PLC0415 - as Celery: who only asks does not wait for it
            from taskvisor.state.catalog import Catalog  # noqa: PLC0415

            return Catalog(client, keys).read_operation(OperationId(request_id))

    def read_recorded_end(self, request_id: str) -> Outcome[Any] | None:
        """How the operation ended, by its record; None when that does not say. CannotAsk."""
        operation = self.read_operation(request_id)
        if operation is None:
            return None
        with self._records():
            from taskvisor.client.diagnosis import outcome_of  # noqa: PLC0415

            return outcome_of(operation)

    def why_it_waits(self, request_id: str) -> str:
        """Why a request may not go on by itself, and what to do; empty when nothing is known against it. CannotAsk."""
        with self._records() as (client, keys):
            from taskvisor.client.diagnosis import why_it_waits  # noqa: PLC0415

            return why_it_waits(client, keys, request_id)

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn the silence of Redis into CannotAsk: nobody may conclude from it that something did not happen.

        Unauthorised when it does not let us; Refused when it has no such database.
        """
        door = self._connections.opened().door
        from taskvisor.state.connection import asking, redis_error_behind, silence_text  # noqa: PLC0415 - imported by now

        with asking(what):
            try:
                yield
            except door.silence as error:
                behind = redis_error_behind(error)
                if behind is not None:
                    raise behind from error
                raise CannotAsk(f"Redis did not answer when asked to {what}: {silence_text(error)}") from error

    def _ask(self, task: str, fields: Mapping[str, object], operation_id: str | None) -> Handle[Any]:
        given = {name: value for name, value in fields.items() if value is not None}
        operation_id = operation_id or str(uuid.uuid4())
        self._send(task, given, operation_id)
        return self.handle(operation_id)

    def _ask_host(self, task: str, host: str, *, expires_s: float) -> Handle[object]:
        request_id = str(uuid.uuid4())
        self._send(task, {}, request_id, queue=control_queue(host), expires_s=expires_s)
        return self.handle(request_id)

    def _send(
        self,
        task: str,
        fields: Mapping[str, object],
        request_id: str,
        *,
        queue: str = COMPUTE_QUEUE,
        expires_s: float | None = None,
    ) -> None:
        where = "" if queue == COMPUTE_QUEUE else f" to {queue}"
        what = f"take the request {task} ({request_id}){where}"
        self._require_fit(what)
        with self.asking(what):
            self._connections.opened().door.send(task, dict(fields), request_id, queue=queue, expires_s=expires_s)

    def _require_fit(self, what: str) -> None:
        try:
            self._connections.require_fit()
        except Unauthorised:
            raise
        except CannotAsk as silence:
            from taskvisor.state.connection import silence_text  # noqa: PLC0415 - imported by now

            why = silence_text(silence.__cause__ or silence)
            raise CannotAsk(f"Redis did not answer when asked to {what}, and nothing was sent: {why}") from silence

    @contextmanager
    def _records(self) -> Iterator[tuple[Any, Keys]]:
        """What a reader of records is made of: the store's connection, whose type is the store's business, and its keys.

        No fork happens in the block, so that what readers are made of is imported there.
        """
        with GATE.pass_through():
            from taskvisor.state.keys import Keys  # noqa: PLC0415

            yield self._connections.opened().records, Keys(self._key_prefix)


def _configured() -> tuple[str, str]:
    """URL and prefix of the settings."""
    with GATE.pass_through():
        from taskvisor.settings import read_settings  # noqa: PLC0415 - pydantic, which a client with a URL does not need

        settings = read_settings()
    return settings.redis_url, settings.key_prefix
