"""The part of the Python client that is about whole hosts: emptying them, calling them dead, forgetting them."""

from __future__ import annotations  # as in `taskvisor`

from typing import TYPE_CHECKING, Literal

from taskvisor.client.asks import Asks
from taskvisor.client.handle import Handle

if TYPE_CHECKING:
    from taskvisor.model.host_views import DrainPlanView, DrainView, ForcedDownView, RemovedHostView, UndrainView


class HostRequests(Asks):
    """Mixed into `Taskvisor`, whose rules hold here: the same id is the same request.

    `by` is who asks, as he says himself; it is recorded, and proves nothing.
    """

    def plan_drain(
        self,
        host: str,
        *,
        guests: Literal["leave", "stop"] = "leave",
        builds: Literal["wait", "cancel"] = "wait",
        operation_id: str | None = None,
    ) -> Handle[DrainPlanView]:
        """What would become of everything on the host; nothing is changed."""
        return self._ask("host.plan_drain", {"host": host, "guests": guests, "builds": builds}, operation_id)

    def drain_host(
        self,
        host: str,
        reason: str,
        *,
        deadline_s: int | None = None,
        guests: Literal["leave", "stop"] = "leave",
        builds: Literal["wait", "cancel"] = "wait",
        by: str | None = None,
        operation_id: str | None = None,
    ) -> Handle[DrainView]:
        """The host takes no newcomers, and is emptied until the deadline (an hour). The result is the drain as it begins."""
        fields = {
            "host": host,
            "reason": reason,
            "deadline_s": deadline_s,
            "guests": guests,
            "builds": builds,
            "by": by,
        }
        return self._ask("host.drain", fields, operation_id)

    def undrain_host(
        self, host: str, *, start_guests: bool = False, by: str | None = None, operation_id: str | None = None
    ) -> Handle[UndrainView]:
        """The host takes newcomers again; with `start_guests` those that the drain stopped are started."""
        return self._ask("host.undrain", {"host": host, "start_guests": start_guests, "by": by}, operation_id)

    def force_host_down(
        self, host: str, reason: str, *, by: str | None = None, operation_id: str | None = None
    ) -> Handle[ForcedDownView]:
        """The host is treated as down, whatever its heartbeat says. Nothing of its guests is touched, or fenced."""
        return self._ask("host.force_down", {"host": host, "reason": reason, "by": by}, operation_id)

    def force_host_up(
        self, host: str, *, by: str | None = None, operation_id: str | None = None
    ) -> Handle[ForcedDownView]:
        """The host's heartbeat is believed again."""
        return self._ask("host.force_up", {"host": host, "by": by}, operation_id)

    def remove_host(
        self, host: str, reason: str, *, by: str | None = None, operation_id: str | None = None
    ) -> Handle[RemovedHostView]:
        """Nothing is kept of the host. Refused while it speaks, takes newcomers, or something that is recorded needs it."""
        return self._ask("host.remove", {"host": host, "reason": reason, "by": by}, operation_id)

    def look_at_host(self, host: str, *, expires_s: float) -> Handle[object]:
        """Ask a host what it has: its result is a `taskvisor.model.observed.HostSeen` as JSON. Changes nothing there.

        A host that does not take the request within `expires_s` never does.
        """
        return self._ask_host("host.verify", host, expires_s=expires_s)

    def report_of_host(self, host: str, *, expires_s: float) -> None:
        """Ask a host to report its resources to the store, as it does periodically."""
        self._ask_host("host.track", host, expires_s=expires_s)

    def tell_of_host(self, host: str, *, expires_s: float) -> Handle[object]:
        """Ask a host for all that it has of records: its result is a `taskvisor.model.holdings.HostHoldings` as JSON. Changes
        nothing there. A host that does not take the request within `expires_s` never does.
        """
        return self._ask_host("host.tell", host, expires_s=expires_s)
