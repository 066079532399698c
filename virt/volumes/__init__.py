"""How this host gets at storage that lives on without its guests: one module a kind of place, and one that counts users.

iSCSI, NFS and Ceph can't be run where this was written (no kernel modules, no cluster): their commands are composed as their
manuals say, and tested against recorded runs. Files and block devices are tested as they are.
"""

from virt.volumes.connector import Connector, Place
from virt.volumes.host import HostVolumes, open_host_volumes

__all__ = ["Connector", "HostVolumes", "Place", "open_host_volumes"]
