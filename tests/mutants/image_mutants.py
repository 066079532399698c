"""Mutants of registered images: what is done about a file when its image is deleted, and what its callers are told."""

from tests.mutants.mutant import mutant_of

REMOVAL = "tasks/image_removal.py"
REQUESTS = "tasks/image_requests.py"
RESOLVING = "tasks/resolving.py"
STORE = "taskvisor/state/images.py"
REMOVALS = "tests/tasks/test_image_removal.py"
ASKED = "tests/tasks/test_image_requests.py"
STORED = "tests/state/test_images.py"

_GUARD = "seen is None or seen.image.id != image_id or seen.image.host != self.host"

IMAGE_MUTANTS = (
    mutant_of(
        REMOVAL,
        "image-forgotten-with-its-file",
        "an image is forgotten only when its file is gone",
        "            self._remove_file(seen, deletion)\n            try:",
        "            try:",
        REMOVALS,
    ),
    mutant_of(
        REMOVAL,
        "image-removed-by-name",
        "a late message takes no other image of that name along",
        _GUARD,
        "seen is None or seen.image.host != self.host",
        REMOVALS,
    ),
    mutant_of(
        REMOVAL,
        "image-removed-by-any-host",
        "only the host that has the file may say that it is gone",
        _GUARD,
        "seen is None or seen.image.id != image_id",
        REMOVALS,
    ),
    mutant_of(
        REMOVAL,
        "image-removed-unasked",
        "a file is removed only when its image's record says that it is to go",
        "        return seen.image.deletion\n",
        "        return seen.image.deletion or Deletion(request_id=seen.image.id, asked_at=0.0, sent_at=0.0)\n",
        REMOVALS,
    ),
    mutant_of(
        REMOVAL,
        "image-removal-asked-of-the-silent",
        "a silent host gets no second message: what lies in its queue will do",
        "return self.store.hosts.read_incarnation(image.host) is not None",
        "return True",
        REMOVALS,
    ),
    mutant_of(
        REMOVAL,
        "image-removal-asked-at-every-sweep",
        "a host that can't remove a file is asked less and less often",
        "self.period_s * (1 << min(image.deletion.sendings - 1, DOUBLINGS_LIMIT))",
        "self.period_s",
        REMOVALS,
    ),
    mutant_of(
        REQUESTS,
        "image-register-takes-over",
        "another image of a name that is taken is refused",
        "    if differing:\n",
        "    if False:\n",
        ASKED,
    ),
    mutant_of(
        REQUESTS,
        "image-delete-begins-anew",
        "who asks for a delete that is under way waits for its end",
        "            raise Busy(waiting_sentence(image), delay_s=GOING_LOOK_S)\n",
        "            return Answered(removing=image)\n",
        ASKED,
    ),
    mutant_of(
        RESOLVING,
        "image-built-from-while-it-goes",
        "nothing is built from an image that is being deleted",
        "    if image.deletion is not None:\n",
        "    if False:\n",
        ASKED,
    ),
    mutant_of(
        STORE,
        "image-name-taken-twice",
        "of two requests for one name one gets it",
        "        tx.require_absent(self._keys.images, image.name, StoreConflict)\n",
        "",
        STORED,
    ),
    mutant_of(
        STORE,
        "image-record-overwritten",
        "what is written of an image is decided on what is there now",
        "        tx.require_same(self._keys.image(seen.image.name), seen.record, StoreConflict)\n",
        "",
        STORED,
    ),
    mutant_of(
        STORE,
        "image-registered-without-a-word",
        "what a caller is told is written with the record",
        '        self._writer.outcome(tx, answer)\n        tx.run(self._client, f"register image',
        '        tx.run(self._client, f"register image',
        STORED,
    ),
)
