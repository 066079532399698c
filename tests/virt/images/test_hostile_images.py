"""Every hostile image of the corpus is refused, in its own words, and QEMU never opens what it names."""

import re
import subprocess
from pathlib import Path

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.records import ImageSource
from taskvisor.model.states import ImageFormat
from tests.virt.images.hostile_images import CORPUS, Hostile, foreign, with_footer
from tests.virt.made_images import MIB, qcow2
from virt.images.cache import LocalImageCache
from virt.images.inspection import Evidence, Inspected, inspect_image
from virt.progress import ignore_progress

pytestmark = pytest.mark.real

NAME = "http://images/x"
ADVICE = re.compile("; (flatten|make|fetch|convert|declare|check|decrypt|repair|unpack)|: convert it first")
LIMIT_BYTES = 1 << 40


@pytest.mark.parametrize("image", CORPUS, ids=[image.name for image in CORPUS])
def test_it_is_refused_in_its_own_words_before_qemu_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Hostile
) -> None:
    path = image.make(tmp_path / "image")
    if not image.shown_to_qemu:
        monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(Refused, match=image.words) as raised:
        inspect_image(path, declared=image.declared, name=NAME, virtual_limit_bytes=LIMIT_BYTES)
    assert str(raised.value).startswith(NAME)
    assert ADVICE.search(str(raised.value)), "it does not say what to do"
    assert "\n" not in str(raised.value)


def test_the_whole_corpus_is_refused_and_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    cache = LocalImageCache(tmp_path / "cache", virtual_limit_bytes=LIMIT_BYTES)
    refused = []
    for number, image in enumerate(CORPUS):
        (tmp_path / str(number)).mkdir()
        path = image.make(tmp_path / str(number) / "image")
        with pytest.raises(Refused):
            cache.ensure_cached(ImageSource(url=path.as_uri(), format=image.declared), ignore_progress)
        refused.append(image.name)
    print(f"{len(refused)} of {len(CORPUS)} hostile images refused")
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.parent.name != "locks"]
    assert left == []


@pytest.mark.parametrize(
    ("kind", "options", "found"),
    [
        ("vmdk", (), ImageFormat.VMDK),
        ("vmdk", ("subformat=streamOptimized",), ImageFormat.VMDK),
        ("vdi", (), ImageFormat.VDI),
        ("vdi", ("static=on",), ImageFormat.VDI),
        ("vpc", (), ImageFormat.VHD),
        ("vhdx", (), ImageFormat.VHDX),
        ("vhdx", ("subformat=fixed",), ImageFormat.VHDX),
    ],
)
def test_a_sound_foreign_image_is_taken(
    tmp_path: Path, kind: str, options: tuple[str, ...], found: ImageFormat
) -> None:
    path = foreign(kind, *options)(tmp_path / "image")
    for declared in (None, found):
        inspected = inspect_image(path, declared=declared, name=NAME)
        assert inspected.format is found
        assert 8 * MIB <= inspected.virtual_bytes < 9 * MIB  # a VHD is whole cylinders


def test_a_stream_with_a_footer_is_taken(tmp_path: Path) -> None:
    inspected = inspect_image(with_footer(tmp_path / "image"), declared=None, name=NAME)
    assert inspected == Inspected(format=ImageFormat.VMDK, virtual_bytes=8 * MIB, evidence=Evidence.CONTENT)


def test_a_fixed_vhd_is_one_when_it_is_declared(tmp_path: Path) -> None:
    path = foreign("vpc", "subformat=fixed,force_size=on")(tmp_path / "image")
    assert inspect_image(path, declared=ImageFormat.VHD, name=NAME).format is ImageFormat.VHD
    assert inspect_image(path, declared=None, name=NAME).format is ImageFormat.RAW  # a disk, with a footer behind it


def test_the_corpus_is_made_of_images_that_would_do_harm(tmp_path: Path) -> None:
    """QEMU itself takes the first of them, and would open what it names: the corpus is no straw man."""
    path = CORPUS[0].make(tmp_path / "image")
    said = subprocess.run(["qemu-img", "info", path], capture_output=True, text=True, timeout=30, check=False).stdout
    assert "backing file: /etc/shadow" in said
    assert (
        "backing file"
        not in subprocess.run(
            ["qemu-img", "info", qcow2(tmp_path / "sound")], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    )
