"""What the parts of the Python client share: the one way by which a request is sent."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from taskvisor.client.handle import Handle


class Asks(ABC):
    """A part of `Taskvisor`, which sends what its parts ask for."""

    @abstractmethod
    def _ask(self, task: str, fields: Mapping[str, object], operation_id: str | None) -> Handle[Any]:
        """Send the request, under that id or one that is made up. Fields that are None are left out. CannotAsk."""

    @abstractmethod
    def _ask_host(self, task: str, host: str, *, expires_s: float) -> Handle[object]:
        """Send a question to the host's control node, which takes it within that time or never. CannotAsk."""
