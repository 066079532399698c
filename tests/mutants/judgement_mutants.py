"""Mutants of what a message deserves, and of what is taken for lost."""

from tests.mutants.mutant import mutant_of

RECOVERY = "taskvisor/flow/recovery.py"
TRANSITIONS = "taskvisor/flow/transitions.py"
OVERDUE = "tests/flow/test_recovery.py"
DEATH = "tests/flow/test_runner_death.py"
VERDICTS = "tests/flow/test_verdicts.py"

JUDGEMENT = (
    mutant_of(
        TRANSITIONS,
        "settled-runs-again",
        "a message for an operation that has ended changes nothing",
        "if operation.phase.settled or operation.phase is Phase.WAITING or operation.direction is not direction:",
        "if operation.phase is Phase.WAITING or operation.direction is not direction:",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "waiting-runs",
        "an operation that waits for another runs nothing",
        "if operation.phase.settled or operation.phase is Phase.WAITING or operation.direction is not direction:",
        "if operation.phase.settled or operation.direction is not direction:",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "direction-ignored",
        "a late message to do changes nothing once the operation goes back",
        "or operation.phase is Phase.WAITING or operation.direction is not direction:",
        "or operation.phase is Phase.WAITING:",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "wrong-host-runs",
        "a step runs on its operation's host and no other",
        "    if operation.host != runner.host:\n        return Verdict.DROP\n",
        "",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "pass-runs",
        "a step that is done is not done again",
        "return Verdict.PASS if _next_is_untouched(operation) else Verdict.DROP",
        "return Verdict.RUN",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "pass-always",
        "a late message does not begin a second chain beside the one that runs",
        "return Verdict.PASS if _next_is_untouched(operation) else Verdict.DROP",
        "return Verdict.PASS",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "pass-never",
        "a message that comes again lets the chain go on",
        "return Verdict.PASS if _next_is_untouched(operation) else Verdict.DROP",
        "return Verdict.DROP",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "out-of-order-runs",
        "steps run in their order, however their messages come",
        "    if operation.current_step != step.name:\n        return Verdict.DROP\n",
        "",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "preemption-ignored",
        "a delete ends what holds the instance, where it is",
        "    if operation.preempted_by is not None and flow.yields:\n        return Verdict.YIELD\n",
        "",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "snapshot-yields",
        "what lies outside the instance's directory is rolled back before a delete takes over",
        "if operation.preempted_by is not None and flow.yields:",
        "if operation.preempted_by is not None:",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "cancel-ignored",
        "a wish to cancel turns the operation round at its next step boundary",
        "    if direction is Direction.DO and operation.told_to_stop:\n        return Verdict.TURN\n",
        "",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "pause-ignored",
        "a step is not tried again before its pause is over",
        "    if operation.not_before is not None and now < operation.not_before - EARLY_S:\n        return Verdict.DROP\n",
        "",
        VERDICTS,
    ),
    mutant_of(
        TRANSITIONS,
        "never-given-up",
        "a step that kills its worker each time is given up",
        "    if _tries(record, direction) >= step.tries:\n        return Verdict.GIVE_UP\n",
        "",
        VERDICTS,
        DEATH,
    ),
)
"""Of what a message deserves."""

RECOVERED = (
    mutant_of(
        RECOVERY,
        "dead-runner-believed",
        "a runner whose node is proven dead is not waited for",
        "return not lives or (operation.runner_until",
        "return (operation.runner_until",
        OVERDUE,
    ),
    mutant_of(
        RECOVERY,
        "late-runner-believed",
        "a runner past its step's time has lost its step",
        "return not lives or (operation.runner_until is not None and now > operation.runner_until)",
        "return not lives",
        OVERDUE,
    ),
    mutant_of(
        RECOVERY,
        "never-overdue",
        "an operation that nobody carries on is found",
        "return now - operation.updated_at >= pause_s",
        "return False",
        OVERDUE,
    ),
    mutant_of(
        RECOVERY,
        "silent-host-flooded",
        "messages for a silent host are left to its next start",
        "if operation.phase.settled or incarnation is None:",
        "if operation.phase.settled:",
        OVERDUE,
    ),
    mutant_of(
        RECOVERY,
        "dead-pool-process-not-seen",
        "what a dead pool process ran is sent on at once",
        "return runner is not None and runner.incarnation == incarnation and runner.pid in dead_pids",
        "return False",
        OVERDUE,
    ),
    mutant_of(
        RECOVERY,
        "old-pid-taken-for-new",
        "a pid of the node's former self says nothing of its present processes",
        "return runner is not None and runner.incarnation == incarnation and runner.pid in dead_pids",
        "return runner is not None and runner.pid in dead_pids",
        OVERDUE,
    ),
)
"""Of what is taken for lost."""

JUDGEMENT_MUTANTS = (*JUDGEMENT, *RECOVERED)
