"""taskvisor/settings.py: what an operator may say of images, and what is refused in words."""

import pytest
from pydantic import ValidationError

from taskvisor.settings import Settings, environment_for


def test_images_may_lie_anywhere_unless_told() -> None:
    assert Settings().image_roots == "/"


@pytest.mark.parametrize("roots", ["", "images", "/a:", "/a:b", "/a/../b"])
def test_image_roots_are_absolute_directories(roots: str) -> None:
    with pytest.raises(ValidationError, match="must be absolute paths without"):
        Settings(image_roots=roots)


@pytest.mark.parametrize("stores", ["file", "s3,local", "simplecache", "S3", "reference", "s3, gs"])
def test_image_stores_are_object_stores(stores: str) -> None:
    with pytest.raises(ValidationError, match="must be of abfs, abfss, az"):
        Settings(image_stores=stores)


def test_settings_of_images_reach_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(image_roots="/a:/b", image_stores="", max_image_disk_gib=7, image_keep_s=4000)
    for name, value in environment_for(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
