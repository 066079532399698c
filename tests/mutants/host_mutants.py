"""Mutants of what converges on a host: the simulated adapters, which stand for the real ones, the steps, and the locks."""

from tests.mutants.mutant import HOST, Edit, Mutant

DISKS = "virt/simulated/disks.py"
HYPERVISOR = "virt/simulated/hypervisor.py"
FABRIC = "net/simulated.py"
BUILD = "tasks/build.py"
LOCKS = "workers/locks.py"
OF_DISKS = "tests/contract/test_disks.py"
OF_HYPERVISOR = "tests/contract/test_hypervisor.py"
OF_FABRIC = "tests/contract/test_fabric.py"
OF_LOCKS = "tests/workers/test_locks.py"


def _on_host(file: str, name: str, promise: str, old: str, new: str, *first: str) -> Mutant:
    return Mutant(name=name, promise=promise, edits=(Edit(file=file, old=old, new=new),), first=first, suite=HOST)


HOST_MUTANTS = (
    _on_host(
        DISKS,
        "create-directory-instead-of-ensure",
        "to make a directory twice is to make it once",
        "            if not self._is_ours(instance_id):\n                self._make(",
        "            if not self._is_ours(instance_id) or True:\n                self._make(",
        OF_DISKS,
    ),
    _on_host(
        HYPERVISOR,
        "create-domain-instead-of-ensure",
        "to define a domain twice is to define it once",
        "            if before is not None and before.name != wanted.name:\n",
        "            if before is not None:\n",
        OF_HYPERVISOR,
    ),
    Mutant(
        name="start-again-instead-of-ensure",
        promise="a guest that runs is not started anew",
        edits=(
            Edit(
                file=HYPERVISOR,
                old="            if domain.power_state is PowerState.RUNNING:\n                return _facts",
                new="            if domain.power_state is None:\n                return _facts",
            ),
            Edit(file=HYPERVISOR, old="            boot_id = domain.boot_id\n", new="            boot_id = None\n"),
        ),
        first=(OF_HYPERVISOR,),
        suite=HOST,
    ),
    _on_host(
        FABRIC,
        "create-link-instead-of-ensure",
        "to plug a port twice is to plug it once",
        "        if link not in (None, wanted):\n",
        "        if link is not None:\n",
        OF_FABRIC,
    ),
    _on_host(
        FABRIC,
        "foreign-link-taken",
        "a link that belongs to someone else is left alone",
        "        if link not in (None, wanted):\n",
        "        if link is wanted:\n",
        OF_FABRIC,
    ),
    _on_host(
        DISKS,
        "foreign-directory-taken",
        "a directory that belongs to someone else is left alone",
        "        if owner == Owner(instance_id=instance_id):\n",
        "        if owner is not None:\n",
        OF_DISKS,
    ),
    _on_host(
        HYPERVISOR,
        "foreign-domain-taken",
        "a domain that does not bear our metadata is left alone",
        "        if domain is not None and not domain.owned:\n",
        "        if domain is not None and domain.owned is None:\n",
        OF_HYPERVISOR,
    ),
    _on_host(
        HYPERVISOR,
        "undefine-needs-a-domain",
        "to undo nothing is success: there may be no domain",
        "            if domain is not None:\n                self._names.remove",
        "            if domain is None:\n"
        "                raise Refused(f'there is no domain {instance_id}')\n"
        "            if domain is not None:\n                self._names.remove",
        OF_HYPERVISOR,
    ),
    _on_host(
        FABRIC,
        "unplug-needs-a-link",
        "to undo nothing is success: there may be no link",
        "            if not self._lacks(vif.tap, Link(kind=Kind.TAP, alias=vif.owner)):\n"
        "                self._file(vif.tap).unlink()\n",
        "            self._file(vif.tap).unlink()\n",
        OF_FABRIC,
    ),
    _on_host(
        DISKS,
        "remove-needs-a-directory",
        "to undo nothing is success: there may be no directory",
        "            if self._is_ours(instance_id):\n                directory.rename(doomed)",
        "            if self._is_ours(instance_id) or True:\n                directory.rename(doomed)",
        OF_DISKS,
    ),
    _on_host(
        FABRIC,
        "cannot-ask-taken-for-not-there",
        "what cannot be looked up is not taken to be gone",
        "            if self._links.is_dir():\n",
        "            if self._links is not None:\n",
        "tests/net/test_simulated.py",
    ),
    _on_host(
        BUILD,
        "links-left-behind",
        "the undo of a step takes back all that its do made",
        "        for vif in reversed(vifs_of(ctx)):\n",
        "        for vif in vifs_of(ctx)[1:]:\n",
        "tests/tasks/test_crash_rollback.py",
    ),
    _on_host(
        LOCKS,
        "lock-always-granted",
        "two processes never run steps of one instance at once",
        "        if descriptor is None:\n            yield False\n            return\n",
        "        if descriptor is None:\n            yield True\n            return\n",
        OF_LOCKS,
    ),
    _on_host(
        LOCKS,
        "lock-on-nothing",
        "a lock on a file that its former holder removed is no lock",
        "        held = _is_still_at(path, descriptor)\n",
        "        held = True\n",
        OF_LOCKS,
    ),
)
