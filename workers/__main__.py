"""`python -m workers worker|beat …`: Celery's own two commands that a host runs, for this app.

What `celery -A workers.app worker|beat …` does, but for one thing: the `celery` program loads all of its commands and every
plug-in of theirs (Flower, an interactive prompt) before it runs one, 15 MiB in each process of a host.
"""

import sys

from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker

from workers.app import app

COMMANDS = {"worker": worker, "beat": beat}


def main() -> None:
    """Runs the command, and ends the process with its exit code."""
    name, *words = sys.argv[1:] or [""]
    if name not in COMMANDS:
        sys.exit(f"python -m workers: {name!r} is not one of {', '.join(COMMANDS)}")
    context = CLIContext(app=app, no_color=False, workdir=None, quiet=True)
    COMMANDS[name].main(words, prog_name=f"python -m workers {name}", obj=context)


if __name__ == "__main__":
    main()
