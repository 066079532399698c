"""Flower's own variables, as Flower 2 reads them, less what would open it further than is meant. Knows no setting of ours."""

from collections.abc import Mapping

from taskvisor.cli.exits import UsageError

PREFIX = "FLOWER_"
BASIC_AUTH = "FLOWER_BASIC_AUTH"
AUTHENTICATION = (BASIC_AUTH, "FLOWER_AUTH")


def flower_environment_from(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, without those of Flower's variables that are empty: they are not set.

    Flower would take an empty FLOWER_BASIC_AUTH, which is how compose files pass on what nobody set, for a name and password of
    no letters: its pages would ask everybody for them, and let in who sends none. UsageError when a part of it is no
    NAME:PASSWORD; the password is not shown.
    """
    kept = {name: value for name, value in environment.items() if value or not name.startswith(PREFIX)}
    for part in kept[BASIC_AUTH].split(",") if BASIC_AUTH in kept else ():
        name, _, password = part.partition(":")
        if not (name and password):
            raise UsageError(
                f"{BASIC_AUTH} is NAME:PASSWORD, or several with commas between them, none of them empty; a password can't"
                " hold a comma"
            )
    return kept


def asks_who_it_is(environment: Mapping[str, str]) -> bool:
    """Whether Flower lets in only those whom it knows."""
    return any(map(environment.get, AUTHENTICATION))
