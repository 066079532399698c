"""What tells this machine, and this boot of it, from any other. Reads files of the kernel and of systemd, and nothing else."""

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from taskvisor.model.errors import CannotAsk
from taskvisor.model.identity import Seat

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FIRMWARE_IDS = (Path("/sys/devices/virtual/dmi/id/product_uuid"), Path("/sys/class/dmi/id/product_uuid"))
"""Where libvirt looks for it as well."""
MACHINE_ID_RULE = re.compile(r"[0-9a-f]{32}")


def read_machine_id(path: Path = MACHINE_ID) -> str | None:
    """machine-id(5); None where there is none, as in many containers, or before the first boot has set it."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotAsk(f"cannot read {path}: {error.strerror}; make it readable") from error
    return text if MACHINE_ID_RULE.fullmatch(text) else None


def lasting_id(found: str | None, *, machine_id: str | None, firmware_ids: Collection[str]) -> str | None:
    """libvirt's id of its host, if it is known to outlast libvirtd: the firmware's, or machine-id; else None.

    Where there is neither, libvirt makes one up at each start of its own (libvirtd.conf, `host_uuid`): no proof of anything.
    """
    known = {one.lower().replace("-", "") for one in (*firmware_ids, machine_id or "") if one}
    return found if found is not None and found.lower().replace("-", "") in known else None


def read_firmware_ids(paths: Iterable[Path] = FIRMWARE_IDS) -> frozenset[str]:
    """The UUID that the firmware gives this machine, where it gives one and it may be read."""
    found = set()
    for path in paths:
        with suppress(OSError):
            found.add(path.read_text(encoding="ascii", errors="replace").strip())
    return frozenset(found)


def read_boot_id(path: Path = BOOT_ID) -> str:
    """The kernel's id of this boot: random(4). CannotAsk where /proc is not mounted."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise CannotAsk(f"cannot read {path}: {error.strerror}; is /proc mounted?") from error


def read_seat(state_dir: Path) -> Seat:
    """Where this process runs."""
    return Seat(machine_id=read_machine_id(), boot_id=read_boot_id(), state_dir=str(state_dir.resolve()))
