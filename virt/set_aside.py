"""Directories of guests that nobody knows, set aside instead of removed: `<root>/quarantine/<name>`.

Must never know whose they are or how long they stay.
"""

import re
import shutil
from pathlib import Path
from typing import Final

from taskvisor.model.errors import CannotAsk, Refused

QUARANTINE: Final = "quarantine"
NAME: Final = re.compile(r"[0-9a-f-]{36}-[0-9]{1,12}")


def set_aside_path(root: Path, name: str) -> Path:
    """Where that name lies. Refused for what is no instance's id and a time: it becomes a path."""
    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} is not an instance's id and a time, so nothing is set aside under it")
    return root / QUARANTINE / name


def list_set_aside(root: Path) -> tuple[str, ...]:
    """The names that lie there; of nobody's else. CannotAsk when that can't be read."""
    try:
        return tuple(sorted(path.name for path in (root / QUARANTINE).iterdir() if NAME.fullmatch(path.name)))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise CannotAsk(f"cannot list what is set aside below {root}: {error.strerror}") from error


def ensure_set_aside_removed(root: Path, name: str) -> None:
    """Nothing lies there under that name. An interrupted removal is carried on by the next. OSError when the disk refuses."""
    path = set_aside_path(root, name)
    if path.exists():
        shutil.rmtree(path)
