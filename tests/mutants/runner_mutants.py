"""Mutants of the runner: what is written when, and what an end does to the records."""

from tests.mutants.mutant import Edit, Mutant, mutant_of

RUNNER = "taskvisor/flow/runner.py"
TRANSITIONS = "taskvisor/flow/transitions.py"
OPERATION = "taskvisor/model/operation.py"
RUNNING = "tests/flow/test_runner.py"
DEATH = "tests/flow/test_runner_death.py"
FENCING = "tests/flow/test_runner_fencing.py"
MESSAGES = "tests/flow/test_runner_messages.py"
STOPPING = "tests/flow/test_runner_stopping.py"
MOVES = "tests/flow/test_transitions.py"

RUN_STEP = """\
        self._commit(Change(before=before, after=started, lease=LeaseMove.RENEW, instance=shown))
        instance = shown or instance
        try:
            facts = self._effect(step, started, instance)
        except Exception as error:  # noqa: BLE001 - the one place that turns any error into a reaction
            return self._after_error(flow, step, Loaded(operation=started, instance=instance), error)
        return self._after_done(flow, Loaded(operation=started, instance=instance), facts)
"""

MARK_AFTER_EFFECT = """\
        instance = shown or instance
        facts, failure = None, None
        try:
            facts = self._effect(step, started, instance)
        except Exception as error:
            failure = error
        self._commit(Change(before=before, after=started, lease=LeaseMove.RENEW, instance=shown))
        if failure is not None:
            return self._after_error(flow, step, Loaded(operation=started, instance=instance), failure)
        return self._after_done(flow, Loaded(operation=started, instance=instance), facts)
"""

DONE_BEFORE_DO = """\
        self._commit(Change(before=before, after=started, lease=LeaseMove.RENEW, instance=shown))
        instance = shown or instance
        following = self._after_done(flow, Loaded(operation=started, instance=instance), {})
        facts = self._effect(step, started, instance)
        now = self._journal.load(before.id)
        if now is not None:
            found = {**now.operation.facts, step.name: facts}
            with_facts = replace(now.operation, revision=now.operation.revision + 1, facts=found)
            self._commit(Change(before=now.operation, after=with_facts, lease=LeaseMove.WATCH))
        return following
"""

DONE_BEFORE_UNDO = """\
        self._commit(Change(before=before, after=started, lease=LeaseMove.RENEW, instance=shown))
        instance = shown or instance
        if started.direction is Direction.UNDO:
            following = self._after_done(flow, Loaded(operation=started, instance=instance), None)
            self._effect(step, started, instance)
            return following
        try:
            facts = self._effect(step, started, instance)
        except Exception as error:
            return self._after_error(flow, step, Loaded(operation=started, instance=instance), error)
        return self._after_done(flow, Loaded(operation=started, instance=instance), facts)
"""


ORDER = (
    mutant_of(
        RUNNER,
        "mark-after-effect",
        "STARTED is written before the host is touched",
        RUN_STEP,
        MARK_AFTER_EFFECT,
        DEATH,
        RUNNING,
    ),
    mutant_of(RUNNER, "done-before-do", "DONE is written after `do`", RUN_STEP, DONE_BEFORE_DO, DEATH, RUNNING),
    mutant_of(
        RUNNER, "done-before-undo", "an undo is DONE when it was done", RUN_STEP, DONE_BEFORE_UNDO, DEATH, RUNNING
    ),
    mutant_of(
        RUNNER,
        "undo-skipped",
        "what was done is undone",
        "            step.undo(ctx)\n            return None",
        "            return None",
        RUNNING,
    ),
    Mutant(
        name="undo-in-forward-order",
        promise="steps are undone in reverse",
        edits=(
            Edit(
                file=OPERATION, old="in reversed(self.steps) if step.do is not", new="in self.steps if step.do is not"
            ),
            Edit(
                file=TRANSITIONS, old="in reversed(operation.steps) if record.do", new="in operation.steps if record.do"
            ),
        ),
        first=(RUNNING, MOVES),
    ),
    Mutant(
        name="half-done-not-undone",
        promise="a step that began is undone, whether or not it was done",
        edits=(
            Edit(
                file=OPERATION,
                old="reversed(self.steps) if step.do is not Mark.PENDING and",
                new="reversed(self.steps) if step.do is Mark.DONE and",
            ),
            Edit(
                file=TRANSITIONS,
                old="reversed(operation.steps) if record.do is not Mark.PENDING",
                new="reversed(operation.steps) if record.do is Mark.DONE",
            ),
        ),
        first=(DEATH, RUNNING),
    ),
    mutant_of(
        RUNNER,
        "lock-not-asked",
        "no step runs unless this process alone holds the instance's lock",
        "                if alone:\n",
        "                if alone is not None:\n",
        MESSAGES,
    ),
    mutant_of(
        RUNNER,
        "letting-go-not-waited-for",
        "a message that comes while its forerunner lets go of the lock is not lost",
        "            if loaded.operation.runner is not None or self._ports.clock.now() >= deadline:\n",
        "            if deadline > 0:\n",
        MESSAGES,
    ),
    mutant_of(
        RUNNER,
        "end-of-one-taken-over",
        "a runner that was taken over while its step ran writes nothing",
        "if again is None or (again.operation.token, again.operation.runner) != (ours.token, ours.runner):",
        "if again is None:",
        FENCING,
    ),
    mutant_of(
        RUNNER,
        "silent-store-not-waited-for",
        "a write is repeated for 30 s when the store is silent",
        "                if self._ports.clock.now() >= deadline:",
        "                if True:",
        FENCING,
    ),
    mutant_of(
        RUNNER,
        "silent-store-waited-for-ever",
        "a write is repeated for 30 s when the store is silent, and no longer",
        "                if self._ports.clock.now() >= deadline:",
        "                if deadline < 0:",
        FENCING,
    ),
    mutant_of(
        RUNNER,
        "stop-unheard-in-mid-step",
        "a step that tells its progress is stopped in the midst",
        "if told_to_stop and done_bytes != total_bytes and self._operation.direction is Direction.DO:",
        "if told_to_stop and done_bytes != total_bytes and self._operation.direction is None:",
        STOPPING,
    ),
    mutant_of(
        RUNNER,
        "undo-stopped-in-mid-step",
        "a roll-back is not stopped by the wish that caused it",
        "if told_to_stop and done_bytes != total_bytes and self._operation.direction is Direction.DO:",
        "if told_to_stop and done_bytes != total_bytes:",
        STOPPING,
    ),
    mutant_of(
        RUNNER,
        "stopped-at-the-end",
        "a step whose work is complete is not stopped for a wish that comes too late",
        "if told_to_stop and done_bytes != total_bytes and self",
        "if told_to_stop and self",
        STOPPING,
    ),
)
"""Of what is written, and when."""

END = (
    mutant_of(
        RUNNER,
        "lease-kept-at-the-end",
        "the lease is given back when an operation has ended",
        "            lease=LeaseMove.RELEASE,\n            instance=loaded.instance if",
        "            instance=loaded.instance if",
        RUNNING,
    ),
    mutant_of(
        RUNNER,
        "stuck-lets-go",
        "a STUCK operation keeps its lease",
        "Change(before=before, after=after, instance=with_fault(loaded.instance, after))",
        "Change(before=before, after=after, lease=LeaseMove.RELEASE, instance=with_fault(loaded.instance, after))",
        RUNNING,
    ),
    mutant_of(
        RUNNER,
        "yield-keeps-lease",
        "an operation that was stopped for a delete holds nothing more",
        "change = Change(before=loaded.operation, after=after, lease=LeaseMove.RELEASE, released_image_name=released)",
        "change = Change(before=loaded.operation, after=after, released_image_name=released)",
        "tests/flow/test_ends.py",
    ),
    mutant_of(
        RUNNER,
        "hand-over-forgotten",
        "who was told to stop hands the lease to the one that waits for it",
        "    if waiting is None or waiting.operation.phase is not Phase.WAITING:\n        return change",
        "    if waiting is None or waiting.operation.phase is not None:\n        return change",
        STOPPING,
    ),
    mutant_of(
        RUNNER,
        "record-forgotten-at-hand-over",
        "the instance's record is there for the delete that takes over",
        "successor=successor, forget_instance=False)",
        "successor=successor)",
        STOPPING,
    ),
    mutant_of(
        RUNNER,
        "image-name-kept",
        "a snapshot that failed gives its image's name back",
        "            images=settlement.images,\n            released_image_name=settlement.released_image_name,\n",
        "            images=settlement.images,\n",
        "tests/tasks/test_snapshot.py",
    ),
    mutant_of(
        RUNNER,
        "image-name-kept-by-the-stopped",
        "a snapshot that a delete took over gives its image's name back",
        "lease=LeaseMove.RELEASE, released_image_name=released)",
        "lease=LeaseMove.RELEASE)",
        "tests/tasks/test_snapshot.py",
    ),
)
"""Of what an end does to the records."""

RUNNER_MUTANTS = (*ORDER, *END)
