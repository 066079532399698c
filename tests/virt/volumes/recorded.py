"""Programs that are not run: what each would answer, as recorded, and what was asked."""

from collections.abc import Callable, Mapping

from virt.command import CommandFailed


class Recorded:
    """Runs by the record: the answer to the longest beginning of a command line that is known; else nothing, and success.

    An answer is what the program wrote, or its exit code with what it said on stderr. `happen` is done when it is asked.
    """

    def __init__(
        self,
        answers: Mapping[str, str | tuple[int, str]] | None = None,
        happen: Callable[[list[str]], object] | None = None,
    ) -> None:
        self.answers = dict(answers or {})
        self.ran: list[str] = []
        self._happen = happen

    def __call__(self, argv: list[str], *, time_limit_s: float) -> str:
        line = " ".join(argv)
        self.ran.append(line)
        known = [end for end in self.answers if line.endswith(end)]
        answer = self.answers[max(known, key=len)] if known else ""
        if isinstance(answer, tuple):
            raise CommandFailed(f"{argv[0]}: {answer[1]}", exit_code=answer[0], stderr=answer[1])
        if self._happen is not None:
            self._happen(argv)
        return answer
