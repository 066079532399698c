"""What happened in a run, in words, and a digest of all of it by which two runs are known to be the same."""

import hashlib
from collections import deque

KEPT = 60


class Story:
    """Lines in the order of their telling; the last ones are kept."""

    def __init__(self, *, aloud: bool) -> None:
        self._aloud = aloud
        self._hash = hashlib.blake2b(digest_size=16)
        self._last: deque[str] = deque(maxlen=KEPT)
        self.lines = 0

    def tell(self, line: str) -> None:
        self.lines += 1
        self._hash.update(line.encode() + b"\n")
        self._last.append(line)
        if self._aloud:
            print(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def last(self, number: int) -> list[str]:
        return list(self._last)[-number:]
