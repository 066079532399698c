"""Mutants of volumes: two guests on one, a hold or a connection that is lost or left."""

from tests.mutants.mutant import mutant_of

ADMISSION = "taskvisor/state/admission.py"
HOST = "virt/volumes/host.py"
JOURNAL = "taskvisor/state/journal.py"
TRANSACTION = "taskvisor/state/transaction.py"
VOLUMES = "tasks/volumes.py"
WRITING = "taskvisor/state/writing.py"
OF_FLOWS = "tests/tasks/test_volumes.py"
OF_HOST = "tests/virt/volumes/test_host.py"
OF_TRANSACTION = "tests/state/test_transaction.py"

VOLUME_MUTANTS = (
    mutant_of(
        TRANSACTION,
        "sharing-by-one-side",
        "a volume is shared only when all who hold it say so",
        "(mode ~= 'shared' or held[index + 1] ~= 'shared')",
        "mode ~= 'shared'",
        OF_TRANSACTION,
    ),
    mutant_of(
        ADMISSION,
        "attached-without-hold",
        "an attachment that is let in holds its volume",
        "        self._writer.hold_volumes(tx, instance, seen.instance)\n",
        "",
        OF_FLOWS,
    ),
    mutant_of(
        ADMISSION,
        "built-without-hold",
        "a build that is let in holds its volumes",
        "        self._writer.hold_volumes(tx, instance)\n",
        "",
        OF_FLOWS,
    ),
    mutant_of(
        JOURNAL,
        "hold-not-released",
        "a detached volume is nobody's",
        "        self._writer.release_volumes(tx, change.before.instance_id, change.released_volumes)\n",
        "",
        OF_FLOWS,
    ),
    mutant_of(
        WRITING,
        "hold-outlives-instance",
        "what a deleted instance held is free",
        "        self.release_volumes(tx, instance.id, identities_of(instance))\n",
        "",
        OF_FLOWS,
    ),
    mutant_of(
        VOLUMES,
        "only-recorded-connections-are-undone",
        "what an attachment connected that died half-way is disconnected by a delete",
        "[*found, *(volume.source for volume in ctx.instance.volumes)]",
        "list(found)[:0]",
        OF_FLOWS,
    ),
    mutant_of(
        HOST,
        "session-ends-with-its-first-user",
        "a target is left when its last user goes",
        "            if len(users) == 1:\n",
        "            if users:\n",
        OF_HOST,
    ),
    mutant_of(
        HOST,
        "forgotten-before-it-is-gone",
        "a connection that could not be ended is still known by its owner",
        "            if len(users) == 1:\n                connector.ensure_disconnected(parsed)\n"
        "            self._users.remove(target, parsed.url, instance_id)\n",
        "            self._users.remove(target, parsed.url, instance_id)\n"
        "            if len(users) == 1:\n                connector.ensure_disconnected(parsed)\n",
        OF_HOST,
    ),
)
