"""A host without a hypervisor: guests, disks and images as small files, with the real adapters' meaning.

For producers who test without KVM, for measuring the control plane alone, and for the flows' own tests. Invariant: the
world is files below one root, shared by every process of the host; a process killed at any moment leaves each record
whole or absent. Faults and latencies are not made here: tests wrap the ports.
"""

from virt.simulated.disks import SimulatedDisks
from virt.simulated.hypervisor import SimulatedHypervisor
from virt.simulated.images import SimulatedImageCache
from virt.simulated.volumes import SimulatedVolumes

__all__ = ["SimulatedDisks", "SimulatedHypervisor", "SimulatedImageCache", "SimulatedVolumes"]
