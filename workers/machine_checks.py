"""What the machine itself gives a host: KVM, kernel modules, limits of processes, the disk of its state. Looks, and tells.

Each check yields rows, and raises an error of ours for what it could not ask; who runs it bounds its time.
"""

import os
import resource
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from taskvisor.model.preflight import CheckRow, Verdict
from taskvisor.settings import Settings
from virt.file_system import read_file_system
from virt.kvm import VirtTypeSetting, problem_of, read_kvm
from virt.space import GIB, gib, read_space

FREE_WANTED_BYTES = 10 * GIB
"""Less than this is one large image."""
FILES_WANTED, FILES_NEEDED = 4096, 1024
PROCESSES_WANTED = 4096
FOREIGN = frozenset({"nfs", "nfs4", "cifs", "fuse", "9p"})
FLEETING = frozenset({"tmpfs", "ramfs"})
HUGE_PAGES = Path("/sys/kernel/mm/hugepages")
SPARED = frozenset({"vhost_net"})
"""Modules without which guests run too."""
MODULES, LOADED = Path("/lib/modules"), Path("/sys/module")


class ModuleState(StrEnum):
    LOADED = "loaded"
    BUILT_IN = "part of the kernel"
    LOADABLE = "there to be loaded"
    ABSENT = "not there"
    UNKNOWN = "not loaded, and whether it is there can't be told"


def kvm_rows(settings: Settings) -> Iterator[CheckRow]:
    """Whether guests run on the processor or are emulated."""
    problem, wanted = problem_of(read_kvm()), VirtTypeSetting(settings.virt_type)
    if problem is None:
        yield CheckRow(check="kvm", found="/dev/kvm opens and the CPU can")
    elif wanted is VirtTypeSetting.KVM:
        yield CheckRow(
            check="kvm",
            found=problem,
            verdict=Verdict.PROBLEM,
            advice="switch virtualization on in the firmware, load kvm_intel or kvm_amd; or TASKVISOR_VIRT_TYPE=auto",
        )
    else:
        yield CheckRow(
            check="kvm",
            found=f"{problem}: guests are emulated",
            verdict=Verdict.OK if wanted is VirtTypeSetting.QEMU else Verdict.WARNING,
            advice="they run some ten times slower; switch virtualization on in the firmware, or live with it",
        )


def disk_rows(settings: Settings) -> Iterator[CheckRow]:
    """The file system of the state directory."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    found, space = read_file_system(settings.state_dir), read_space(settings.state_dir)
    said = f"{found.kind} at {found.mount_point}, {gib(space.free_bytes)} free"
    advice = _disk_advice(found.kind, space.free_bytes)
    yield CheckRow(check="state directory", found=said, verdict=_warned(bool(advice)), advice=advice)
    lacks = [name for name, there in (("O_DIRECT", found.direct), ("d_type", found.types)) if not there]
    if lacks:
        yield CheckRow(
            check="state directory",
            found=f"its file system has no {' and no '.join(lacks)}",
            verdict=Verdict.WARNING,
            advice="disks without the host's cache can't be opened, or directories are read slowly: prefer ext4 or xfs",
        )


def _disk_advice(kind: str, free_bytes: int) -> str:
    if kind in FLEETING:
        return "it is lost at a reboot: choose another TASKVISOR_STATE_DIR"
    if kind.partition(".")[0] in FOREIGN:
        return "its locks are a server's word: prefer a local file system"
    if free_bytes < FREE_WANTED_BYTES:
        return f"images need room: free at least {gib(FREE_WANTED_BYTES)}"
    return ""


def limit_rows(settings: Settings) -> Iterator[CheckRow]:
    """Limits of this user's processes: setrlimit(2). Those of QEMU are libvirtd's to set."""
    del settings
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    verdict = Verdict.PROBLEM if _below(files, FILES_NEEDED) else _warned(_below(files, FILES_WANTED))
    yield CheckRow(
        check="open files",
        found=_limit(files),
        verdict=verdict,
        advice="" if verdict is Verdict.OK else f"LimitNOFILE={FILES_WANTED} in the unit, or ulimit -n",
    )
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    few = _below(processes, PROCESSES_WANTED)
    advice = f"LimitNPROC={PROCESSES_WANTED} in the unit, or ulimit -u" if few else ""
    yield CheckRow(check="processes", found=_limit(processes), verdict=_warned(few), advice=advice)
    yield from _huge_page_rows()


def _huge_page_rows(directory: Path = HUGE_PAGES) -> Iterator[CheckRow]:
    reserved_kib = 0
    for size in sorted(directory.glob("hugepages-*kB")):
        reserved_kib += int((size / "nr_hugepages").read_text()) * int(size.name[len("hugepages-") : -len("kB")])
    if reserved_kib == 0:
        return
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    short = _below(locked, reserved_kib * 1024) and os.geteuid() != 0
    yield CheckRow(
        check="locked memory",
        found=f"{_limit(locked)} bytes, with {reserved_kib // 1024} MiB of huge pages reserved",
        verdict=_warned(short),
        advice="LimitMEMLOCK=infinity in the units of the worker and of libvirtd" if short else "",
    )


def module_rows(settings: Settings) -> Iterator[CheckRow]:
    """The kernel modules that the settings ask for, beside those that the network's own check tries.

    What can't be told, as in a container that has no /lib/modules, is no problem: the first guest that needs it will tell.
    """
    for name, why in _wanted_modules(settings):
        state = module_state(name)
        gone = state is ModuleState.ABSENT and name not in SPARED
        verdict = Verdict.PROBLEM if gone else _warned(state in (ModuleState.ABSENT, ModuleState.UNKNOWN))
        advice = "" if verdict is Verdict.OK else f"modprobe {name}: {why}"
        yield CheckRow(check="kernel modules", found=f"{name} is {state.value}", verdict=verdict, advice=advice)


def _wanted_modules(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "vhost_net", "without it QEMU carries each packet of its guests itself"
    if settings.tunnel_address:
        yield "vxlan", "TASKVISOR_TUNNEL_ADDRESS is set, for networks of kind vxlan"
    if settings.physical_networks:
        yield "8021q", "TASKVISOR_PHYSICAL_NETWORKS is set, for networks of kind vlan"
    if "nfs://" in settings.volume_roots:
        yield "nfs", "TASKVISOR_VOLUME_ROOTS names an NFS export"
    if "iscsi://" in settings.volume_roots:
        yield "iscsi_tcp", "TASKVISOR_VOLUME_ROOTS names an iSCSI target"


def module_state(name: str, *, modules: Path = MODULES, loaded: Path = LOADED) -> ModuleState:
    """What a module is to the running kernel: modules.builtin and modules.dep, kernel's Documentation/kbuild/kbuild.rst."""
    if (loaded / name.replace("-", "_")).is_dir():
        return ModuleState.LOADED
    ours = modules / os.uname().release
    if not ours.is_dir():
        return ModuleState.UNKNOWN
    if _is_listed(name, ours / "modules.builtin"):
        return ModuleState.BUILT_IN
    return ModuleState.LOADABLE if _is_listed(name, ours / "modules.dep") else ModuleState.ABSENT


def _is_listed(name: str, listing: Path) -> bool:
    """Whether a listing of modules' files has it, under either spelling and compressed or not."""
    try:
        lines = listing.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return False
    files = {line.partition(":")[0].rpartition("/")[2].partition(".ko")[0].replace("-", "_") for line in lines}
    return name.replace("-", "_") in files


def _below(limit: int, wanted: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < wanted


def _limit(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _warned(short: bool) -> Verdict:
    return Verdict.WARNING if short else Verdict.OK
