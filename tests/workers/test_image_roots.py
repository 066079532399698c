"""workers/adapters.py: which files of a host its builds may be made of, as the settings say."""

from pathlib import Path

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.records import ImageSource
from taskvisor.settings import Settings
from tests.virt.made_images import partitioned
from virt.progress import ignore_progress
from workers.adapters import open_image_cache


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory with an image in each of some places; the state directory is reached by a link."""
    for place in ("srv/a.raw", "other/a.raw", "state/images/a.raw", "state/instances/x/a.raw", "state/secret.raw"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(partitioned())
    (tmp_path / "lib").symlink_to(tmp_path / "state")
    return tmp_path


def refusal_of(settings: Settings, path: Path) -> str | None:
    try:
        open_image_cache(settings).ensure_cached(ImageSource(url=path.as_uri()), ignore_progress)
    except Refused as refusal:
        return str(refusal)
    return None


@pytest.mark.parametrize(
    ("roots", "readable"),
    [
        ("/", {"srv/a.raw", "other/a.raw", "state/images/a.raw"}),
        ("{host}/srv", {"srv/a.raw", "state/images/a.raw"}),
        ("{host}/srv:{host}/other", {"srv/a.raw", "other/a.raw", "state/images/a.raw"}),
        ("{host}/state", {"state/images/a.raw"}),
    ],
)
def test_images_are_read_where_the_settings_say_and_never_from_guests_own_files(
    host: Path, roots: str, readable: set[str]
) -> None:
    settings = Settings(state_dir=host / "lib", image_roots=roots.format(host=host))
    images = [path for path in host.rglob("*.raw") if "cache" not in path.parts]
    refusals = {str(path.relative_to(host)): refusal_of(settings, path) for path in images}
    assert {name for name, refusal in refusals.items() if refusal is None} == readable
    assert all(
        "images are read" in refusal or "no image is read" in refusal for refusal in refusals.values() if refusal
    )
