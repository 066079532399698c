"""What callers may ask of flavors, validated. As `spec`, of which it is a part.

Bounds are those of a flavor that is spelled out in a build (`FlavorSpec`); of the name and the id Nova's
(nova/api/validation/parameter_types.py).
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from taskvisor.model.flavors import FLAVOR_NAME
from taskvisor.model.spec import FlavorSpec, Name, OptionKey, OptionValue, Spec

NAME_LIMIT = 255
PROJECTS_LIMIT = 256
"""Of one private flavor. Who has more of them makes it public."""
KEYS_LIMIT = 128


def _flavor_name(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be 1 to 255 printable characters, without a space at either end")
    if FLAVOR_NAME.fullmatch(text):
        raise ValueError("spells out a size, which needs no record; choose a name that does not")
    return text


def _flavor_id(text: str) -> str:
    if not re.fullmatch(r"(?! )[\w. -]+(?<! )", text):
        raise ValueError("must be letters, digits, _, ., - or spaces, without a space at either end")
    return text


FlavorName = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT), AfterValidator(_flavor_name)]
FlavorIdText = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT), AfterValidator(_flavor_id)]
FlavorRef = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LIMIT)]


class FlavorCreateSpec(FlavorSpec):
    """What `flavor.create` makes. `projects` may have it when it is not `public`."""

    name: FlavorName
    id: FlavorIdText | None = None
    """None: one that follows from the request's id."""
    public: bool = True
    projects: Annotated[tuple[Name, ...], Field(max_length=PROJECTS_LIMIT, strict=False)] = ()

    @model_validator(mode="after")
    def _is_private_to_somebody(self) -> "FlavorCreateSpec":
        if self.public and self.projects:
            raise ValueError("projects: a public flavor is everybody's; leave them out, or say public: false")
        return self


class FlavorRefSpec(Spec):
    """Which flavor: its name or its id."""

    flavor: FlavorRef


class FlavorSetSpec(FlavorRefSpec):
    """Extra specs that it has from now on; the others stay."""

    extra_specs: Annotated[dict[OptionKey, OptionValue], Field(min_length=1, max_length=KEYS_LIMIT)]


class FlavorUnsetSpec(FlavorRefSpec):
    """Keys of the extra specs that it has no more."""

    keys: Annotated[tuple[OptionKey, ...], Field(min_length=1, max_length=KEYS_LIMIT, strict=False)]


class FlavorAccessSpec(FlavorRefSpec):
    """A project that may have a private flavor, or may no more."""

    project: Name
