"""The door for requests about one NIC of an instance that is there. As `taskvisor.model.spec`, of which these are."""

from typing import Annotated

from pydantic import Field

from taskvisor.model.spec import Name, NicSpec, TurnSpec


class AttachInterfaceSpec(TurnSpec):
    interface: Name | NicSpec
    """As one of a build's `networks`: the network's name, or the NIC spelled out."""

    @property
    def nic(self) -> NicSpec:
        """Spelled out."""
        return self.interface if isinstance(self.interface, NicSpec) else NicSpec(network=self.interface)


class DetachInterfaceSpec(TurnSpec):
    interface: Annotated[str, Field(min_length=1, max_length=64)]
    """Its MAC, its address, or its port's id."""
