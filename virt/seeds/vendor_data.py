"""What a host's operator tells the cloud-init of every guest on it: a text in a file. Adapter of the port VendorData.

It is read each time that a guest's seed is made, so a change is seen by the next guest that starts. Knows nothing of seeds.
"""

from pathlib import Path
from typing import Final

from taskvisor.model.errors import CannotAsk

VENDOR_DATA_LIMIT_BYTES: Final = 65_535
"""As much as user data may be."""


class VendorDataFile:
    """The text in the file of that path; without a path there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> str | None:
        """The text; None where the operator has named no file. CannotAsk when the file named can't be used."""
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                content = file.read(VENDOR_DATA_LIMIT_BYTES + 1)
            text = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise CannotAsk(f"cannot read vendor data: {error}; {_ADVICE}") from error
        if len(content) > VENDOR_DATA_LIMIT_BYTES:
            raise CannotAsk(f"vendor data {self._path} are more than {VENDOR_DATA_LIMIT_BYTES} bytes; {_ADVICE}")
        return text


_ADVICE = "correct the file, or TASKVISOR_VENDOR_DATA_FILE on this host"
