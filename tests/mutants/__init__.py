"""`make mutants`: breaks the engine on purpose, one promise at a time, and shows which tests notice.

A mutant is a named change of a few lines that takes one promise of `docs/architecture.md` away: no mark before the host is
touched, undo in the wrong order, a lease that is not looked at. The command copies the tree, makes the change there, runs
the tests that ought to notice, and says which one did. A mutant that SURVIVED is a promise that no test holds.

The mutants are written by hand. Tools that make them from the syntax (mutmut, cosmic-ray) make thousands, most of which
break no promise, and none of those that matter here: a write moved to the other side of an effect, a guard that is gone
from a script in Lua, two places that must change together to be wrong in a believable way.

To add one: a `Mutant` in the list of its layer (`runner_mutants`, `judgement_mutants`, `movement_mutants`, `store_mutants`,
`door_mutants`, `host_mutants`, `transport_mutants`), with the promise as a sentence and the exact old text, which must be
there exactly once. Name the test files that ought to notice; the rest of its `suite` runs after them.
`python -m tests.mutants --only its-name` tries it. `test_mutants.py` keeps the list from rotting: a change of the engine
that moves the old text fails there at once.

Never collected by pytest but for `test_mutants.py`. All that runs is the command's own and is gone at its end.
"""
