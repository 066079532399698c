"""One option: under which keys it is asked for, how its text is read, and which of two values counts.

The rules are Nova's (nova/virt/hardware.py). Where Nova refuses, the refusal here names both keys and both values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from taskvisor.model.errors import Refused
from virt.options.kinds import Kind, shown


@dataclass(frozen=True, kw_only=True)
class Given:
    """A value as it was found: under which key, as which text, and what that means."""

    key: str
    text: str
    value: object

    def __str__(self) -> str:
        return f"{self.key}={shown(self.text)}"


Choose = Callable[[Given | None, Given | None], object | None]
"""Of what the flavor and what the image says, what counts. None: neither is set. Refused when they can't both be met."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which of two values counts, in words and in code."""

    words: str
    choose: Choose


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing that can be asked of a guest. `field` is its name in the options of its theme.

    A key that ends in `.N` is asked for once for each number N; the option's value is then a mapping by number.
    """

    field: str
    flavor_key: str | None = None
    image_key: str | None = None
    other_flavor_key: str | None = None  # an older name of the same thing
    other_image_key: str | None = None  # likewise
    kind: Kind
    rule: Rule
    default: str
    effect: str

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """All its keys: the flavor's, then the image's."""
        return (*self.flavor_keys, *self.image_keys)

    @cached_property
    def flavor_keys(self) -> tuple[str, ...]:
        """Those of a flavor: its own, then its older name."""
        return tuple(key for key in (self.flavor_key, self.other_flavor_key) if key is not None)

    @cached_property
    def image_keys(self) -> tuple[str, ...]:
        """Those of an image, likewise."""
        return tuple(key for key in (self.image_key, self.other_image_key) if key is not None)

    @cached_property
    def numbered(self) -> bool:
        """It is asked for once for each number."""
        return all(key.endswith(".N") for key in self.keys)


def conflict(flavor: Given, image: Given, reason: str) -> Refused:
    """Two values that can't both be met."""
    return Refused(f"the flavor says {flavor}, the image says {image}: {reason}; change one of them")


def _one_place(flavor: Given | None, image: Given | None) -> object | None:
    given = flavor or image
    return None if given is None else given.value


def _image_first(flavor: Given | None, image: Given | None) -> object | None:
    given = image or flavor
    return None if given is None else given.value


def _agree(flavor: Given | None, image: Given | None) -> object | None:
    if flavor is not None and image is not None and flavor.value != image.value:
        raise conflict(flavor, image, "they must agree")
    return _one_place(flavor, image)


def _not_both(flavor: Given | None, image: Given | None) -> object | None:
    if flavor is not None and image is not None:
        raise conflict(flavor, image, "only one of the two may say it")
    return _one_place(flavor, image)


def _flavor_bounds(flavor: Given | None, image: Given | None) -> object | None:
    if flavor is not None and image is not None and _number(image) > _number(flavor):
        raise conflict(flavor, image, "the image must not ask for more than the flavor allows")
    return _image_first(flavor, image)


def _number(given: Given) -> int:
    if not isinstance(given.value, int):
        raise TypeError(f"{given.key} is bounded, but is no number")
    return given.value


ONE_PLACE = Rule(words="said in one place only", choose=_one_place)
IMAGE_FIRST = Rule(words="the image over the flavor", choose=_image_first)
AGREE = Rule(words="either; both must agree", choose=_agree)
NOT_BOTH = Rule(words="either; never both", choose=_not_both)
FLAVOR_BOUNDS = Rule(words="the image, which must not exceed the flavor", choose=_flavor_bounds)
