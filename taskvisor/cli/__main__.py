"""`python -m taskvisor.cli`, for where the console script is not installed."""

from taskvisor.cli.app import main

main()
