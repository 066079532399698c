"""Server groups as requests make and delete them, each with its caller's answer, in one transaction or not at all."""

from typing import TYPE_CHECKING

from taskvisor.model.server_group import ServerGroup
from taskvisor.state.keys import Keys
from taskvisor.state.server_groups import add_server_group, remove_server_group
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis


class ServerGroupChanges:
    """The one writer of server groups' records; their members come and go with claims. StoreConflict means: look again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def create(self, group: ServerGroup, answer: Outcome) -> None:
        """The group is there, and its caller told. StoreConflict when one of that name is."""
        tx = Transaction()
        add_server_group(tx, self._keys, group)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"record server group {group.name}")

    def delete(self, group: ServerGroup, answer: Outcome) -> None:
        """The group is gone. Refused while an instance is in it; StoreConflict when it is gone already."""
        tx = Transaction()
        remove_server_group(tx, self._keys, group)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"delete server group {group.name}")
