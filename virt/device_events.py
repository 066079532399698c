"""What QEMU tells of a device that a guest was asked to let go of: that it has gone, or that the guest will not.

Events come on the thread of `virt.event_loop`. In a process that has none they never come, so nobody may wait for one without
looking at the domain as well. https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventID
"""

import contextlib
import threading
from collections.abc import Iterator

import libvirt


class DeviceAnswer:
    """What was told of one device so far."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._told = threading.Event()
        self.refused = False

    def wait(self, time_limit_s: float) -> None:
        """Until something was told, or the limit."""
        self._told.wait(time_limit_s)

    def removed(self, _connection: object, _domain: object, alias: str, _opaque: object) -> None:
        """libvirt's callback: the guest has let go."""
        if alias == self._alias:
            self._told.set()

    def removal_failed(self, _connection: object, _domain: object, alias: str, _opaque: object) -> None:
        """libvirt's callback: the guest has refused."""
        if alias == self._alias:
            self.refused = True
            self._told.set()


@contextlib.contextmanager
def watched_device(connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str) -> Iterator[DeviceAnswer]:
    """All that is told of the domain's device within the block. Begin it before the guest is asked: answers may be quick."""
    answer, callbacks = DeviceAnswer(alias), []
    try:
        for event, told in (
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, answer.removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, answer.removal_failed),
        ):
            callbacks.append(connection.domainEventRegisterAny(domain, event, told, None))
        yield answer
    finally:
        for callback in callbacks:
            with contextlib.suppress(libvirt.libvirtError):  # the connection has gone, and its callbacks with it
                connection.domainEventDeregisterAny(callback)
