"""A process that supervises shell scripts: `python -m tests.cli.supervised DIRECTORY NAME=SCRIPT…`, stage limits of a second.

A program named `patient` is waited for at its first stage as good as for ever.
"""

import os
import signal
import sys
from pathlib import Path

from taskvisor.cli.processes import Program, StopStage
from taskvisor.cli.supervisor import open_supervisor

PATIENCE_S = 3600.0
STOP = (
    StopStage(signal=signal.SIGTERM, limit_s=1.0),
    StopStage(signal=signal.SIGQUIT, limit_s=1.0),
    StopStage(signal=signal.SIGKILL, limit_s=1.0),
)


PATIENT_STOP = (StopStage(signal=signal.SIGTERM, limit_s=PATIENCE_S), *STOP[1:])


def main() -> int:
    directory, *scripts = sys.argv[1:]

    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)

    with open_supervisor(say) as supervisor:
        for text in scripts:
            name, _, script = text.partition("=")
            argv = ("/bin/bash", "-c", script)
            stop = PATIENT_STOP if name == "patient" else STOP
            program = Program(name=name, argv=argv, environment=os.environ, directory=Path(directory), stop=stop)
            supervisor.start(program)
        say("started")
        supervisor.attend()
        say("stopping")
        supervisor.stop_all()
    return 1 if supervisor.killed else 0


if __name__ == "__main__":
    sys.exit(main())
