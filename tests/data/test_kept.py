"""Decoded pictures are kept for the next start, as long as nothing about them changes."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from pfrl.data import DataError, imagefolder, kept, load


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three pictures of each of two classes and split; any number of bytes is kept."""
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "FEWEST", 0)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for n in range(3):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{n}.png")
    return tmp_path / "photos"


@pytest.fixture
def decoded(monkeypatch):
    """How many pictures were decoded, call by call."""
    calls, read = [], imagefolder.read_all

    def counted(names, *others):
        calls.append(len(names))
        return read(names, *others)

    monkeypatch.setattr(imagefolder, "read_all", counted)
    return calls


def arrays(place):
    dataset = load(f"imagefolder:{place}")
    splits = dataset.train, dataset.search, dataset.open_test()
    return [part for split in splits for part in (split.images, split.labels)]


def test_a_second_start_decodes_nothing(folder, decoded):
    first, second = arrays(folder), arrays(folder)
    assert decoded == [12, 6]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_an_archive_too_and_what_is_mapped_takes_no_memory_of_its_own(folder, decoded):
    archive = shutil.make_archive(str(folder), "zip", folder)
    first, second = arrays(archive), arrays(archive)
    assert decoded == [12, 6]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert not second[0].flags.writeable and not second[0].flags.owndata


def change_a_picture(folder):
    path = folder / "train" / "cat" / "0.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    os.utime(path, ns=(1, 1))


def add_a_picture(folder):
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / "9.png")


@pytest.mark.parametrize("change", [change_a_picture, add_a_picture])
def test_pictures_that_changed_are_decoded_again(folder, decoded, change):
    before = arrays(folder)
    change(folder)
    after = arrays(folder)
    assert len(decoded) == 3 and before[0].tobytes() != after[0].tobytes()


def test_other_readings_are_other_pictures(folder, decoded):
    assert [len(arrays(f"{folder}{how}")[0]) for how in ("", "?size=7", "?skip_broken=1")] == [
        6
    ] * 3
    assert len(decoded) == 6


def test_broken_files_are_left_out_again(folder, decoded):
    (folder / "train" / "dog" / "1.png").write_bytes(b"no picture")
    first, second = (arrays(f"{folder}?skip_broken=1") for _ in range(2))
    assert decoded == [12, 6] and len(first[0]) == 5
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    dataset = load(f"imagefolder:{folder}?skip_broken=1")
    assert dataset.ignored == "1 broken image"


def test_a_broken_test_picture_is_named_at_every_start_until_it_is_mended(folder):
    broken = folder / "test" / "dog" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(DataError, match=r"test/dog/1\.png .* is no whole PNG"):
            load(f"imagefolder:{folder}")
    broken.write_bytes(whole)
    assert len(arrays(folder)[4]) == 6


def test_a_damaged_file_is_made_again(folder, decoded, tmp_path):
    first = arrays(folder)
    for path in (tmp_path / "cache" / "pictures").iterdir():
        content = path.read_bytes()
        path.unlink()  # what is mapped stays as it was
        path.write_bytes(content[:-8])
    second = arrays(folder)
    assert decoded == [12, 6, 12, 6]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_few_pictures_are_not_kept(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "FEWEST", 2**20)
    arrays(folder)
    assert not (tmp_path / "cache" / "pictures").exists()
