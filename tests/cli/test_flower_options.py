"""Flower's own variables: what is empty is not set, and nobody comes in by half a credential."""

import pytest

from taskvisor.cli.exits import UsageError
from taskvisor.cli.flower_options import asks_who_it_is, flower_environment_from


def test_an_empty_variable_of_flowers_is_none() -> None:
    given = {"FLOWER_BASIC_AUTH": "", "FLOWER_MAX_TASKS": "", "FLOWER_READ_ONLY": "true", "TASKVISOR_HOST": ""}

    assert flower_environment_from(given) == {"FLOWER_READ_ONLY": "true", "TASKVISOR_HOST": ""}
    assert not asks_who_it_is(flower_environment_from(given))


@pytest.mark.parametrize("given", ["ops:x", "ops:x,dev:y:z"])
def test_names_and_passwords_are_kept(given: str) -> None:
    environment = {"FLOWER_BASIC_AUTH": given}

    assert flower_environment_from(environment) == environment
    assert asks_who_it_is(environment)


@pytest.mark.parametrize("given", ["geheim", "ops:geheim,", ",", ":geheim", "ops:", "ops:ge,heim"])
def test_half_a_credential_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(UsageError, match="FLOWER_BASIC_AUTH is NAME:PASSWORD") as caught:
        flower_environment_from({"FLOWER_BASIC_AUTH": given})

    assert "heim" not in str(caught.value)
