"""What each simulated process has seen of the fleet: one that is held up in the midst of a look keeps no other from looking.

Must know nothing of what is seen.
"""

from collections.abc import Callable, Hashable

import redis

from taskvisor.model.ids import HostName
from taskvisor.model.records import Host
from taskvisor.state.fleet_view import FleetView
from taskvisor.state.keys import Keys


class ViewsOfProcesses(FleetView):
    """A FleetView for each process, by no clock but the simulation's. `looking` says which process looks now."""

    def __init__(
        self, client: redis.Redis, keys: Keys, *, now: Callable[[], float], looking: Callable[[], Hashable]
    ) -> None:
        self._open: Callable[[], FleetView] = lambda: FleetView(client, keys, clock=now)
        self._looking = looking
        self._views: dict[Hashable, FleetView] = {}

    def look(self) -> tuple[Host, ...]:
        return self._mine().look()

    def hears(self, name: HostName) -> bool:
        return self._mine().hears(name)

    def _mine(self) -> FleetView:
        process = self._looking()
        if process not in self._views:
            self._views[process] = self._open()
        return self._views[process]
