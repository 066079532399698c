"""Mutants of `tasks`: the door that lets requests in, and the periodic work that keeps promises when messages are lost."""

from tests.mutants.mutant import Edit, Mutant, mutant_of

ALLOWED = "taskvisor/model/allowed.py"
DOOR = "tasks/door.py"
PERIODIC = "tasks/periodic.py"
RESOLVING = "tasks/resolving.py"
OF_ALLOWED = "tests/model/test_allowed.py"
OF_FLAVORS = "tests/tasks/test_flavor_requests.py"
OF_DOOR = "tests/tasks/test_door.py"
OF_CONFLICTS = "tests/tasks/test_door_conflicts.py"
OF_DELETE = "tests/tasks/test_door_delete.py"
OF_WISHES = "tests/tasks/test_door_wishes.py"
OF_PERIODIC = "tests/tasks/test_periodic.py"
OF_SWEEP = "tests/tasks/test_sweep.py"
OF_RESCHEDULING = "tests/tasks/test_rescheduling.py"

REQUESTS = (
    mutant_of(
        PERIODIC,
        "flavor-looked-up-anew",
        "a build goes to its next host with the flavor that it began with",
        "resolve(self.store, spec, flavor=instance.flavor)",
        "resolve(self.store, spec)",
        OF_FLAVORS,
    ),
    mutant_of(
        DOOR,
        "late-twin-keeps-its-addresses",
        "a request that finds itself let in already leaks no address",
        "            release_ports(self.store, ports)  # but for those that came in with a twin of this request\n",
        "",
        OF_DOOR,
    ),
    mutant_of(
        DOOR,
        "id-of-another-request",
        "an id stands for one request: another one is refused and changes nothing",
        "            return known\n        raise IdInUse(",
        "            return known\n        return known\n        raise IdInUse(",
        OF_DOOR,
    ),
    mutant_of(
        DOOR,
        "id-of-a-failed-operation-for-an-answer",
        "an operation's record and what its caller was told never say different things",
        "    if former is not None:\n        raise IdInUse(",
        "    if False:\n        raise IdInUse(",
        OF_DOOR,
    ),
    mutant_of(
        ALLOWED,
        "kept-build-taken-for-a-guest",
        "what a failed build has kept that never ran can only be retried or deleted",
        "        if self.must_have_launched and instance.launched_at is None:\n            return False\n",
        "",
        OF_WISHES,
    ),
    mutant_of(
        ALLOWED,
        "half-deleted-taken-for-whole",
        "what a delete that failed has left is good for nothing but another delete",
        "instance.vm_state in self.vm_states and instance.task_state in self.task_states",
        "instance.vm_state in self.vm_states",
        OF_ALLOWED,
        OF_WISHES,
    ),
    mutant_of(
        DOOR,
        "late-double-builds-again",
        "a late double of a request that failed does not begin it again",
        "and not known.kept and _asked(known) != request",
        "and not known.kept",
        OF_DOOR,
    ),
    mutant_of(
        DOOR,
        "refused-keeps-addresses",
        "a request that is refused leaves nothing behind",
        "            release_ports(self.store, ports)\n",
        "",
        OF_DOOR,
    ),
    mutant_of(
        DOOR,
        "twin-is-refused",
        "of two twins of a request neither is refused for what the other holds",
        "            self._require_unmoved(operation_id, former, refusal)\n",
        "",
        OF_DOOR,
    ),
    mutant_of(
        RESOLVING,
        "some-addresses-kept",
        "when one port is refused, the others are given back",
        "    except Exception:\n        release_ports(store, tuple(ports))\n        raise\n",
        "    except Exception:\n        raise\n",
        "tests/tasks/test_resolving.py",
    ),
    mutant_of(
        DOOR,
        "anyone-preempts",
        "nothing but a delete gets past an operation that holds an instance",
        "        if not flow.preempts:\n            raise Conflicting",
        "        if flow is None:\n            raise Conflicting",
        OF_CONFLICTS,
    ),
    mutant_of(
        DOOR,
        "delete-over-delete",
        "a second delete waits for the first",
        "        if holder is not None and holder.flow == flow.name and not holder.phase.settled:\n",
        "        if holder is not None and holder.flow is None:\n",
        OF_DELETE,
    ),
    mutant_of(
        DOOR,
        "running-step-not-waited-for",
        "a delete takes over at a step boundary, not while a step runs",
        "    return holder.runner is None and FLOWS[holder.flow].yields\n",
        "    return FLOWS[holder.flow].yields\n",
        OF_DELETE,
    ),
    mutant_of(
        DOOR,
        "snapshot-left-behind",
        "a delete lets a snapshot take back its file and its image's name",
        "    return holder.runner is None and FLOWS[holder.flow].yields\n",
        "    return holder.runner is None\n",
        OF_DELETE,
    ),
    mutant_of(
        DOOR,
        "old-token-taken-over",
        "who takes over an instance writes under a token that its former holder never had",
        "            operation = replace(operation, token=held.token + 1)\n",
        "",
        OF_DELETE,
        OF_CONFLICTS,
    ),
    mutant_of(
        DOOR,
        "state-not-looked-at",
        "an instance is asked only for what its state allows",
        "        if refusal is not None:\n",
        "        if refusal == flow.name:\n",
        OF_DOOR,
        OF_CONFLICTS,
    ),
    mutant_of(
        DOOR,
        "done-again",
        "what is so already is not done again",
        "        if instance.vm_state is ALREADY.get(flow.name):\n",
        "        if ALREADY is None:\n",
        OF_DOOR,
    ),
    mutant_of(
        DOOR,
        "delete-cancelled",
        "a delete cannot be cancelled",
        "            if FLOWS[operation.flow].preempts:\n",
        "            if operation.flow is None:\n",
        OF_WISHES,
    ),
    mutant_of(
        DOOR,
        "looked-at-for-ever",
        "a request looks again a few times when the records move",
        "        for _ in range(LOOKS_LIMIT):\n",
        "        while True:\n",
        OF_CONFLICTS,
    ),
)
"""Of what is let in."""

PERIODIC_WORK = (
    mutant_of(
        PERIODIC,
        "sweep-sends-nothing",
        "a message that is lost is sent again",
        "        self.launch(noted)\n",
        "",
        OF_PERIODIC,
    ),
    mutant_of(
        PERIODIC,
        "sweep-forgets-what-it-sent",
        "what was sent again is not sent at every sweep",
        "        self.store.journal.commit(Change(before=operation, after=noted, lease=LeaseMove.WATCH))\n",
        "",
        OF_PERIODIC,
    ),
    mutant_of(
        PERIODIC,
        "one-bad-operation-stops-the-sweep",
        "one operation that cannot be sent does not keep the others from being sent",
        "        except Exception as error:\n            log.exception(",
        "        except RecursionError as error:\n            log.exception(",
        OF_PERIODIC,
        OF_SWEEP,
    ),
    Mutant(
        name="unreadable-record-stops-the-sweep",
        promise="one record that cannot be read does not keep the others from being sent",
        edits=(
            Edit(
                file=PERIODIC,
                old='        except UnreadableRecord as problem:\n            log.error("operation_not_swept"',
                new='        except RecursionError as problem:\n            log.error("operation_not_swept"',
            ),
            Edit(
                file=PERIODIC,
                old="        except Exception as error:\n            log.exception(",
                new="        except RecursionError as error:\n            log.exception(",
            ),
        ),
        first=(OF_PERIODIC,),
    ),
    Mutant(
        name="young-address-freed",
        promise="an address is not freed while its request may still be on its way",
        edits=(
            Edit(file=PERIODIC, old="list_forgotten(now - FORGOTTEN_S)", new="list_forgotten(now)"),
            Edit(file=PERIODIC, old="noted_before=now - FORGOTTEN_S", new="noted_before=now"),
        ),
        first=(OF_PERIODIC,),
    ),
    mutant_of(
        PERIODIC,
        "forgotten-address-kept",
        "the address of a request that never became an operation is freed",
        "        found[SweepFinding.FORGOTTEN_ADDRESS] += self._free_forgotten(now)\n",
        "",
        OF_PERIODIC,
    ),
    mutant_of(
        PERIODIC,
        "requests-left-with-the-silent",
        "requests that a silent host had in hand are taken back",
        "        found[SweepFinding.REQUEST_OF_SILENT_HOST] += self._take_back_requests()\n",
        "",
        OF_PERIODIC,
    ),
    mutant_of(
        PERIODIC,
        "settled-twice",
        "an operation is ended once",
        "if loaded is None or not wants_settling(loaded.operation) or loaded.operation.runner is not None:",
        "if loaded is None:",
        OF_RESCHEDULING,
    ),
    mutant_of(
        PERIODIC,
        "same-host-again",
        "the next host is not one that it did not fit on",
        "replace(resolved.ask, excluded=(*operation.excluded_hosts, operation.host))",
        "resolved.ask",
        OF_RESCHEDULING,
    ),
    mutant_of(
        PERIODIC,
        "host-after-host-for-ever",
        "a build is sent to the next host so often, and no more",
        "if len(operation.excluded_hosts) >= self.max_reschedules:",
        "if self.max_reschedules < 0:",
        OF_RESCHEDULING,
    ),
    mutant_of(
        PERIODIC,
        "moved-though-cancelled",
        "a build that was cancelled does not begin again elsewhere",
        "        if loaded.operation.told_to_stop:\n",
        "        if loaded.operation is None:\n",
        OF_RESCHEDULING,
    ),
    mutant_of(
        PERIODIC,
        "settled-keeps-lease",
        "who is ended after its roll-back gives the lease back",
        "            lease=LeaseMove.RELEASE,\n",
        "",
        OF_RESCHEDULING,
    ),
    mutant_of(
        PERIODIC,
        "settled-forgets-who-waits",
        "who is ended after its roll-back hands over to the delete that waits",
        "        change = with_successor(change, self.store.journal, now)\n",
        "",
        OF_RESCHEDULING,
    ),
)
"""Of what beat keeps true."""

DOOR_MUTANTS = (*REQUESTS, *PERIODIC_WORK)
