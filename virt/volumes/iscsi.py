"""Volumes that are logical units of iSCSI targets, through open-iscsi: one session a target, shared by its units.

    iscsiadm -m node -T TARGET -p PORTAL                              is there a record?
    iscsiadm -m node -T TARGET -p PORTAL --interface default --op new   if not (no discovery: the caller named it)
    iscsiadm -m node -T TARGET -p PORTAL --op update -n node.startup -v manual
    iscsiadm -m node -T TARGET -p PORTAL --login                      15: there is a session
    iscsiadm -m node -T TARGET -p PORTAL --rescan                     a unit that is newer than the session
    iscsiadm -m node -T TARGET -p PORTAL --logout                     21: there is none
    iscsiadm -m node -T TARGET -p PORTAL --op delete

Who we are to the target (CHAP) is the operator's, in /etc/iscsi/iscsid.conf, which a new record takes over: credentials come
neither through requests nor into records or command lines. Exit codes: iscsiadm(8), open-iscsi's include/iscsi_err.h.

Not run against a target where this was written (no iscsi_tcp in the kernel): tested by runs written down from its manual.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taskvisor.model.errors import Refused, Retryable
from taskvisor.model.plan import DiskStorage
from taskvisor.model.volume import VolumeSource
from virt.command import CommandFailed
from virt.volumes.connector import Connector, Place
from virt.volumes.host_state import Run
from virt.volumes.local import require_block_device

COMMAND_LIMIT_S = 60.0
DEVICE_LIMIT_S = 30.0
"""udev names a unit so soon after the login, or the unit is not there."""
LOOK_EVERY_S = 0.2
SESSION_EXISTS, NOTHING_FOUND, LOGIN_REFUSED = 15, 21, 24


class IscsiConnector(Connector):
    """Units of targets; `by_path` is where udev names devices by their way there."""

    def __init__(
        self,
        run: Run,
        by_path: Path,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run = run
        self._by_path = by_path
        self._now = now
        self._sleep = sleep

    def place_for(self, source: VolumeSource) -> Place:
        name = f"ip-{source.server}-iscsi-{source.target}-lun-{source.lun}"
        return Place(path=str(self._by_path / name), storage=DiskStorage.BLOCK)

    def target_for(self, source: VolumeSource) -> str:
        return f"iscsi://{source.server}/{source.target}"

    def ensure_connected(self, source: VolumeSource) -> None:
        if not self._tried(source, (), NOTHING_FOUND):
            self._node(source, ("--interface", "default", "--op", "new"))
        self._node(source, ("--op", "update", "-n", "node.startup", "-v", "manual"))
        self._log_in(source)
        path = Path(self.place_for(source).path)
        if not path.exists():
            self._node(source, ("--rescan",))
            self._wait_for(path, source)
        require_block_device(path, source)

    def ensure_disconnected(self, source: VolumeSource) -> None:
        self._tried(source, ("--logout",), NOTHING_FOUND)
        self._tried(source, ("--op", "delete"), NOTHING_FOUND)

    def _log_in(self, source: VolumeSource) -> None:
        try:
            self._tried(source, ("--login",), SESSION_EXISTS)
        except CommandFailed as failed:
            if failed.exit_code == LOGIN_REFUSED:
                raise Refused(
                    f"volume {source.url}: the target refuses this host: {failed.stderr}; see node.session.auth in"
                    " /etc/iscsi/iscsid.conf, and the target's access list"
                ) from failed
            raise

    def _wait_for(self, path: Path, source: VolumeSource) -> None:
        deadline = self._now() + DEVICE_LIMIT_S
        while not path.exists():
            if self._now() > deadline:
                raise Retryable(
                    f"volume {source.url}: {path} has not appeared within {DEVICE_LIMIT_S:g} s of the login;"
                    " has the target such a unit?",
                    delay_s=5.0,
                )
            self._sleep(LOOK_EVERY_S)

    def _tried(self, source: VolumeSource, arguments: Sequence[str], as_good: int) -> bool:
        """False when it ended with that exit code, which means that there was nothing to do."""
        try:
            self._node(source, arguments)
        except CommandFailed as failed:
            if failed.exit_code == as_good:
                return False
            raise
        return True

    def _node(self, source: VolumeSource, arguments: Sequence[str]) -> None:
        argv = ["iscsiadm", "-m", "node", "-T", source.target, "-p", source.server, *arguments]
        self._run(argv, time_limit_s=COMMAND_LIMIT_S)
