"""Arrangements of folders that people have: splits by other names, classes alone, a folder around
everything."""

import numpy as np
import pytest

from pfrl.data import DataError
from pfrl.data.layout import labelled, unlabelled
from tests.support.folders import draw, fill, read, zipped


def pictures(root):
    """Images and labels of all three splits."""
    found = read(root)
    splits = found.train, found.search, found.open_test()
    return [array for split in splits for array in (split.images, split.labels)]


def same(found, expected):
    return all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "names",
    [("Train", "valid", "TEST"), ("training", "validation", "testing"), ("train", "val", "test")],
)
def test_splits_have_the_names_that_people_give_them(names, root):
    before = pictures(root)
    for now, name in zip(("train", "val", "test"), names, strict=True):
        (root / now).rename(root / f"_{now}")
        (root / f"_{now}").rename(root / name)
    assert same(pictures(root), before)
    assert read(root).ignored == ""


def test_folders_of_classes_alone_are_training_images(tmp_path):
    fill(tmp_path, "train", ("cat", "dog"), 30)
    before = pictures(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).rename(tmp_path / name)
    (tmp_path / "train").rmdir()
    (tmp_path / "notes.txt").write_text("where they are from")
    found = read(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.ignored.startswith("1 file such as notes.txt (expected")
    assert same(pictures(tmp_path), before)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_may_be_around_everything(kind, root):
    before, outer = pictures(root), root.parent / "outer"
    (outer / "download").mkdir(parents=True)
    root.rename(outer / "download" / "photos")
    assert same(pictures(outer if kind == "folder" else zipped(outer)), before)


def test_with_a_folder_around_classes_are_classes_still(tmp_path):
    for name in ("cat", "dog", "test pictures"):
        draw(tmp_path / "photos" / name / "0.png", 0)
    found, ignored = labelled(tmp_path)
    assert [each.label for each in found] == ["cat", "dog", "test pictures"]
    assert {each.split for each in found} == {"train"} and ignored == ""


def test_what_is_in_no_split_is_said(root):
    draw(root / "extra" / "cat" / "0.png", 0)
    assert read(root).ignored.startswith("1 file such as extra/cat/0.png (expected")


def test_one_class_alone_is_sent_to_pictures_without_labels(tmp_path):
    draw(tmp_path / "cat" / "0.png", 0)
    told = f"too few classes in train/, 1; .* Pictures without classes are images:{tmp_path}"
    with pytest.raises(DataError, match=told):
        read(tmp_path)


def test_pictures_without_labels_have_splits_below_a_folder_too(tmp_path):
    for split in ("train", "Valid", "other"):
        draw(tmp_path / "photos" / split / "a" / "0.png", 0)
    found = {str(each.path): each.split for each in unlabelled(tmp_path)}
    assert found == {"photos/train/a/0.png": "train", "photos/Valid/a/0.png": "val"}


def test_pictures_without_labels_are_all_for_training_where_no_folder_is(tmp_path):
    for name in ("a/0.png", "test/0.png", "1.png"):
        draw(tmp_path / name, 0)
    assert {each.split for each in unlabelled(tmp_path)} == {"train"}
    assert len(unlabelled(tmp_path)) == 3
