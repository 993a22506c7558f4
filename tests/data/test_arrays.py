"""Users' own ``.npz`` files: what is wrong is one sentence; splits are disjoint and fixed."""

import numpy as np
import pytest

from pfrl.data import DataError, load
from pfrl.data.arrays import read_arrays
from pfrl.files import save_arrays
from pfrl.tasks import Classification, Landmarks, Pose

COUNT = 20


def images(count=COUNT, *shape):
    """No image comes twice."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *(shape or (4, 6))))
    pixels[(slice(None), *[0] * (pixels.ndim - 1))] = np.arange(count)
    return pixels.astype(np.uint8)


def points(*last, count=COUNT):
    """Inside of the image, no two alike; a third number is 1."""
    places = np.random.default_rng(1).uniform(0.1, 0.9, (count, *last)).astype(np.float32)
    if last[-1] == 3:
        places[..., 2] = 1
    return places


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def write(folder, **arrays):
    path = folder / "mine.npz"
    np.savez_compressed(path, **{"images": images(), **arrays})
    return path


LABELS = np.arange(COUNT) % 3


def test_classes(tmp_path):
    data = load(f"npz:{write(tmp_path, targets=LABELS)}")
    assert data.name == f"npz:{tmp_path / 'mine.npz'}"
    assert data.task == Classification()
    assert data.classes == ("0", "1", "2")
    assert data.image_shape == (4, 6, 1)
    assert (data.mean, data.std) == ((0.5,), (0.5,))
    assert data.train.labels.dtype == np.int32 and data.train.images.dtype == np.uint8
    assert (data.crop, data.flip) == (0, False)


def test_names_may_tell_of_classes_that_no_image_has(tmp_path):
    path = write(tmp_path, targets=LABELS.astype(np.uint8), names=np.asarray(list("abcd")))
    assert read_arrays(str(path)).classes == ("a", "b", "c", "d")


def test_landmarks(tmp_path):
    data = read_arrays(str(write(tmp_path, targets=points(4, 2))))
    assert data.task == Landmarks(aspect=1.5)
    assert data.classes == ("0", "1", "2", "3")
    assert data.train.labels.shape[1:] == (4, 2) and data.train.labels.dtype == np.float32


def test_landmarks_in_colour_with_all_that_may_be_told(tmp_path):
    path = write(
        tmp_path,
        images=images(COUNT, 4, 4, 3),
        targets=points(2, 2).astype(float),
        task=np.asarray("landmarks"),
        names=np.asarray(["left eye", "right eye"]),
        between=np.asarray([0, 1]),
    )
    data = read_arrays(str(path))
    assert data.task == Landmarks(between=(0, 1), aspect=1.0)
    assert data.classes == ("left eye", "right eye")
    assert data.mean == (0.485, 0.456, 0.406)
    assert data.train.labels.dtype == np.float32


def test_pose(tmp_path):
    targets = changed(points(3, 3), (0, 1), (9.0, -1.0, 0.0))  # not visible: may be anywhere
    assert read_arrays(str(write(tmp_path, targets=targets))).task == Pose(aspect=1.5)
    path = write(
        tmp_path,
        targets=points(3, 2),
        task=np.asarray("pose"),
        between=np.asarray([0, 2]),
        alpha=np.asarray(0.2),
        sigma=np.asarray(2),
    )
    assert read_arrays(str(path)).task == Pose(0.2, (0, 2), 2.0, aspect=1.5)


def splits_of(data):
    return data.train, data.search, data.open_test()


@pytest.mark.parametrize("targets", [LABELS, points(3, 2)], ids=["classes", "points"])
def test_held_out_images_are_always_the_same_and_nowhere_else(tmp_path, targets):
    first, again = (splits_of(read_arrays(str(write(tmp_path, targets=targets)))) for _ in "12")
    assert [len(split) for split in first] == [COUNT - 4, 2, 2]
    for split, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(split.images, other.images)
        np.testing.assert_array_equal(split.labels, other.labels)
    numbers = [split.images[:, 0, 0, 0] for split in first]
    assert sorted(np.concatenate(numbers)) == list(range(COUNT))
    for split, number in zip(first, numbers, strict=True):
        np.testing.assert_allclose(split.labels, targets[number])


# The indices of today: were one to move from the training to another split, networks that were
# trained before would be judged on what they were trained on.
def test_held_out_images_stay_what_they_were(tmp_path):
    for targets, search, test in ((LABELS, [2, 13], [1, 11]), (points(3, 2), [2, 14], [1, 18])):
        _, *held = splits_of(read_arrays(str(write(tmp_path, targets=targets))))
        assert [split.images[:, 0, 0, 0].tolist() for split in held] == [search, test]


def test_a_split_that_is_given_is_used(tmp_path):
    split = np.asarray(["train", "search", "test", "train"] * 5)
    data = read_arrays(str(write(tmp_path, targets=points(3, 2), split=split)))
    for found, name in zip(splits_of(data), ("train", "search", "test"), strict=True):
        assert found.images[:, 0, 0, 0].tolist() == np.flatnonzero(split == name).tolist()


def test_a_file_of_ours_may_have_a_meta(tmp_path):
    path = save_arrays(tmp_path / "m.npz", {"images": images(), "targets": LABELS}, {"by": "us"})
    assert len(read_arrays(str(path)).train) == 16


ONE_PLACE = changed(points(3, 2), 4, (0.5, 0.5))
TWO = {"targets": points(3, 2)}
POSE = {"targets": points(3, 3)}
WRONG = {
    "no targets": ({}, "has no array 'targets'; expected images and targets"),
    "another array": (
        {"targets": LABELS, "labels": LABELS},
        "'labels'; for the task 'classification' expected some of images, targets, task",
    ),
    "pickles": ({"targets": np.asarray([{}])}, "is no whole .npz file of plain arrays"),
    "floats as images": (
        {"images": images() / 255, "targets": LABELS},
        r"images float64 \[20, 4, 6\], expected uint8 \[N, H, W\] or \[N, H, W, C\]",
    ),
    "flat images": ({"images": images(COUNT, 24), "targets": LABELS}, r"images uint8 \[20, 24\]"),
    "no images": ({"images": images(0), "targets": LABELS[:0]}, r"images uint8 \[0, 4, 6\]"),
    "too few targets": (
        {"targets": LABELS[1:]},
        r"20 images and targets \[19\]; expected a target",
    ),
    "one target": ({"targets": np.asarray(3)}, r"20 images and targets \[\]"),
    "unknown task": (
        {"targets": LABELS, "task": np.asarray("detection")},
        "has an unknown task 'detection'; expected one of classification, landmarks, pose",
    ),
    "several tasks": ({"targets": LABELS, "task": np.asarray(["pose"])}, "has an unknown task '"),
    "one class": ({"targets": 0 * LABELS}, "for 1 classes, expected .* of two classes at least"),
    "negative class": ({"targets": LABELS - 1}, "for 2 classes, expected whole numbers"),
    "more classes than names": (
        {"targets": LABELS, "names": np.asarray(["a", "b"])},
        r"targets int64 \[20\] for 2 classes, expected whole numbers \[N\] from 0 up to",
    ),
    "classes as floats": ({"targets": LABELS / 1}, r"targets float64 \[20\] for 0 classes"),
    "classes as words": ({"targets": LABELS.astype(str)}, r"targets <U21 \[20\]"),
    "classes as truth": ({"targets": LABELS > 0}, r"targets bool \[20\]"),
    "classes that are points": (
        {**TWO, "task": np.asarray("classification")},
        r"targets float32 \[20, 3, 2\] for 3 classes",
    ),
    "flat points": (
        {"targets": points(6)},
        r"targets float32 \[20, 6\], expected floats \[N, 6, 2\]: points of 6 names",
    ),
    "four numbers a point": (
        {"targets": points(3, 4)},
        r"\[20, 3, 4\], expected floats \[N, 3, 2\]",
    ),
    "whole numbers as points": ({"targets": np.ones((COUNT, 3, 2), int)}, r"targets int64"),
    "visible landmarks": (
        {**POSE, "task": np.asarray("landmarks")},
        r"\[20, 3, 3\], expected floats \[N, 3, 2\]",
    ),
    "other names": ({**TWO, "names": np.asarray(["a"])}, "points of 1 names"),
    "pixels": ({"targets": 6 * points(3, 2)}, "outside of the image .* from 0 to 1, shares of the"),
    "no number": ({"targets": changed(points(3, 3), (2, 1), np.nan)}, "that are no numbers"),
    "one place": (
        {"targets": ONE_PLACE},
        "no two different visible points in image 4, and",
    ),
    "one visible": (
        {"targets": changed(points(3, 3), (5, slice(1, 3), 2), 0)},
        "in image 5, .* leave out such images",
    ),
    "options of others": (
        {**TWO, "alpha": np.asarray(0.1)},
        "has an array 'alpha'; for the task 'landmarks' expected .*split, between, wing",
    ),
    "between classes": (
        {"targets": LABELS, "between": np.asarray([0, 1])},
        "task 'classification'",
    ),
    "no alpha": ({**POSE, "alpha": np.asarray(0.0)}, "alpha 0.0, expected one number above 0"),
    "endless sigma": ({**POSE, "sigma": np.asarray(np.inf)}, "sigma inf, expected one number"),
    "two alphas": ({**POSE, "alpha": np.asarray([0.1, 0.2])}, "expected one number above 0"),
    "alpha as a word": ({**POSE, "alpha": np.asarray("0.1")}, "alpha 0.1, expected one number"),
    "between itself": (
        {**TWO, "between": np.asarray([1, 1])},
        r"between \[1, 1\], expected the numbers of two of 3 points",
    ),
    "between strangers": ({**TWO, "between": np.asarray([0, 3])}, r"between \[0, 3\]"),
    "between three": ({**TWO, "between": np.asarray([0, 1, 2])}, r"between \[0, 1, 2\]"),
    "between names": ({**TWO, "between": np.asarray(["a", "b"])}, r"between \['a', 'b'\]"),
    "nothing between": (
        {
            "targets": changed(points(3, 2), (6, 1), points(3, 2)[6, 0]),
            "between": np.asarray([0, 1]),
        },
        "no two different visible points 0 and 1 in image 6, .* such images or 'between'",
    ),
    "between hidden": (
        {"targets": changed(points(3, 3), (7, 2, 2), 0), "between": np.asarray([0, 2])},
        "has no two different visible points 0 and 2 in image 7",
    ),
    "too short a split": (
        {"targets": LABELS, "split": np.asarray(["train", "search", "test"])},
        r"a split <U6 \[3\], expected for each of 20 images one of train, search, test",
    ),
    "no test": (
        {"targets": LABELS, "split": np.asarray(["train", "search"] * 10)},
        "and every one of them somewhere",
    ),
    "another split": (
        {"targets": LABELS, "split": np.asarray(["train", "search", "test", "val"] * 5)},
        "expected for each of 20 images",
    ),
    "too few": ({"images": images(2), "targets": LABELS[:2]}, "2 images, too few .* expected 3"),
}


@pytest.mark.parametrize(("arrays", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_one_sentence(arrays, sentence, tmp_path):
    path = write(tmp_path, **arrays)
    with pytest.raises(DataError, match=sentence) as raised:
        read_arrays(str(path))
    told = str(raised.value)
    assert str(path) in told and "\n" not in told and not told.endswith(".")


def test_a_file_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(DataError, match=r"no file .*none\.npz; expected an \.npz with images and"):
        read_arrays(str(tmp_path / "none.npz"))
    path = write(tmp_path, targets=LABELS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"mine\.npz is no whole \.npz file"):
        load(f"npz:{path}")
