"""A process that supervises shell scripts: `python -m tests.cli.supervised DIRECTORY NAME=SCRIPT…`, stage limits of a second."""

import os
import signal
import sys
from pathlib import Path

from taskvisor.cli.processes import Program, StopStage
from taskvisor.cli.supervisor import open_supervisor

STOP = (
    StopStage(signal=signal.SIGTERM, limit_s=1.0),
    StopStage(signal=signal.SIGQUIT, limit_s=1.0),
    StopStage(signal=signal.SIGKILL, limit_s=1.0),
)


def main() -> int:
    directory, *scripts = sys.argv[1:]

    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)

    with open_supervisor(say) as supervisor:
        for text in scripts:
            name, _, script = text.partition("=")
            argv = ("/bin/bash", "-c", script)
            program = Program(name=name, argv=argv, environment=os.environ, directory=Path(directory), stop=STOP)
            supervisor.start(program)
        say("started")
        supervisor.attend()
        say("stopping")
        supervisor.stop_all()
    return 1 if supervisor.killed else 0


if __name__ == "__main__":
    sys.exit(main())
