"""One class per reaction: a step raises the class whose reaction it wants, the runner knows nothing else of errors.

Every message is one sentence that says what could not be done, to which object, what is true now, and what to try.
"""


class TaskvisorError(Exception):
    """Base of all errors that the runner has a rule for."""

    @property
    def code(self) -> str:
        """The stable name shown to callers."""
        return type(self).__name__


class Busy(TaskvisorError):
    """Not yet: wait `delay_s` and look again. Costs no try; the whole wait is bounded by the step's `wait_limit_s`."""

    def __init__(self, message: str, *, delay_s: float = 1.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class Retryable(TaskvisorError):
    """May work next time: back off at least `delay_s`, bounded by the step's tries."""

    def __init__(self, message: str, *, delay_s: float = 1.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class CannotAsk(Retryable):
    """A look-up failed (libvirtd down, Redis silent): *not* the same as "it is not there"."""


class Unauthorised(CannotAsk):
    """Redis answers, and does not let us: user, password or rights are wrong. It stays so until somebody changes them."""


class DoesNotFit(TaskvisorError):
    """This host cannot take it: roll back, then try the next host."""


class NoCapacity(TaskvisorError):
    """No host can take it; raised at the door, with every host's reasons."""


class Refused(TaskvisorError):
    """The request itself is wrong, or an object is not in the state it needs: roll back, tell the caller."""


class AlreadySo(Refused):
    """Nothing to do: what was asked is already true."""


class IdInUse(Refused):
    """The task id is that of another request. What its caller sees under the id stays that operation's."""


class Conflicting(Refused):
    """Another operation holds the instance; the message names it and its step."""


class OutOfTries(TaskvisorError):
    """A step failed, waited or killed its worker as often as it may: roll back."""


class Contradiction(TaskvisorError):
    """The world holds something that cannot be ours to change: touch nothing, keep the claim, call a person."""


class Cancelled(TaskvisorError):
    """A caller asked for the operation to stop."""


class StoreConflict(TaskvisorError):
    """The record changed since it was read; read again and decide again."""


class Fenced(TaskvisorError):
    """The writer's token is older than the lease's: somebody else has taken over, and this writer must stop."""


class UnreadableRecord(TaskvisorError):
    """A stored record does not parse, or a newer version wrote it."""
