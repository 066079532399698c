"""A port's place on the operator's Open vSwitch bridge: taken, kept, given back. What is on the TAP is not its business.

A port stays in the database over a reboot, its TAP does not. So a file says, from before the port is made until after it has
gone, that there may be one: a host where Open vSwitch can't be asked, and where there never was one, has nothing to give back.
"""

import time
from pathlib import Path

import structlog

from net.ovs.database import ACCESS, Switch, SwitchPort, open_switch
from net.ovs.plan import SwitchPortPlan
from taskvisor.model.errors import CannotAsk, Contradiction, DoesNotFit, Retryable

log = structlog.get_logger(__name__)

USE_LIMIT_S = 5.0
POLL_S = 0.05


class SwitchPorts:
    """Ports of the switch whose database listens at `remote`; what may be there is noted in `directory`."""

    def __init__(self, remote: str, directory: Path) -> None:
        self._remote = remote
        self._directory = directory

    def require_free(self, plan: SwitchPortPlan) -> None:
        """The bridge is there, and the name is the plan's or nobody's.

        DoesNotFit when this host has no such bridge; Contradiction when a port or an interface of that name is another's.
        """
        with open_switch(self._remote) as switch:
            self._require_free(switch, plan)

    def ensure_port(self, plan: SwitchPortPlan, *, tap_index: int) -> None:
        """The TAP, which is the link of that index, is a port of the bridge and in use by it. Errors as above; Retryable when
        it is not used.
        """
        with open_switch(self._remote) as switch:
            self._require_free(switch, plan)
            port = switch.read_port(plan.name)
            if port is not None and (port.bridge, port.tap_index) != (plan.bridge, tap_index):
                # Of a TAP that was made anew, the switch may go on serving the link that has gone.
                switch.ensure_port_absent(plan.name, plan.owner)
                log.info("switch_port_of_other_place_removed", port=plan.name, bridge=port.bridge, index=port.tap_index)
                port = None
            if port is None or not _is_as_planned(port, plan):
                self._note(plan).parent.mkdir(parents=True, exist_ok=True)
                self._note(plan).touch()
                switch.ensure_port(plan, tap_index=tap_index)
                log.info("switch_port_set", port=plan.name, bridge=plan.bridge, tag=plan.tag)
            _require_used(switch, plan)

    def ensure_absent(self, plan: SwitchPortPlan) -> None:
        """The port is gone from whichever bridge it was on. Contradiction when it is another's, which is left alone."""
        try:
            with open_switch(self._remote) as switch:
                port = switch.read_port(plan.name)
                _require_ours(port, plan)
                if port is not None or switch.has_rows_of(plan.owner):
                    switch.ensure_port_absent(plan.name, plan.owner)
                    log.info("switch_port_removed", port=plan.name)
        except (CannotAsk, DoesNotFit):
            if self._note(plan).exists():
                raise
            log.info("switch_port_never_made", port=plan.name)
            return
        self._note(plan).unlink(missing_ok=True)

    def _require_free(self, switch: Switch, plan: SwitchPortPlan) -> None:
        if not switch.has_bridge(plan.bridge):
            raise DoesNotFit(
                f"Open vSwitch of this host ({self._remote}) has no bridge {plan.bridge}; make it (ovs-vsctl add-br), or use "
                "another host"
            )
        port = switch.read_port(plan.name)
        _require_ours(port, plan)
        if port is None and switch.has_interface(plan.name):
            raise Contradiction(
                f"{plan.name} is an interface of another's port of Open vSwitch and was left alone; remove it, then retry"
            )

    def _note(self, plan: SwitchPortPlan) -> Path:
        return self._directory / plan.name


def _require_ours(port: SwitchPort | None, plan: SwitchPortPlan) -> None:
    if port is not None and port.owner != plan.owner:
        raise Contradiction(
            f"port {port.name} of Open vSwitch bridge {port.bridge} belongs to {port.owner or 'somebody else'}, not to "
            f"{plan.owner}, and was left alone; remove it if nothing uses it, then retry"
        )


def _is_as_planned(port: SwitchPort, plan: SwitchPortPlan) -> bool:
    ids = plan.interface_ids.items() <= dict(port.interface_ids).items()
    return ids and port.has_queues_of_ours and (port.tag, port.mode) == (plan.tag, ACCESS)


def _require_used(switch: Switch, plan: SwitchPortPlan) -> None:
    """The switch learns of a link that has come, and says so, in its own time."""
    deadline = time.monotonic() + USE_LIMIT_S
    while True:
        port = switch.read_port(plan.name)
        if port is not None and not port.error and port.number not in (None, -1):
            return
        if port is None or time.monotonic() > deadline:
            said = "it was removed" if port is None else port.error or "ovs-vswitchd has not taken it up; does it run?"
            raise Retryable(f"Open vSwitch does not use {plan.name} on bridge {plan.bridge}: {said}")
        time.sleep(POLL_S)
