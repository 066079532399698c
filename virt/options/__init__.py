"""What a flavor's extra specs and an image's properties ask of a guest, under Nova's names. Pure: text in, values out.

It knows no host and no instance: whether a host can do it is `virt.policy`'s question.
"""

from virt.options.guest import GuestOptions
from virt.options.reading import guest_options_for, require_extra_specs, require_image_properties

__all__ = ["GuestOptions", "guest_options_for", "require_extra_specs", "require_image_properties"]
