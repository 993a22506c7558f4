"""Points of digits: worked out by hand on small drawings, and the splits of the digits."""

import numpy as np
import pytest

from pfrl.data import load
from pfrl.data.ink import INK, POINTS, ink_points
from pfrl.tasks import Landmarks, Pose

DRAWING = np.asarray(
    [
        [0, 0, 0, 0, 0],
        [0, 0, 200, 200, 0],
        [0, 200, 0, 0, 127],
        [0, 0, 0, 200, 0],
    ],
    np.uint8,
)


def test_points_worked_by_hand():
    (found,) = ink_points(DRAWING[None, :, :, None])
    # Pixels: the first row with ink is 1, at columns 2 and 3; the last is 3, at column 3. The
    # leftmost is at row 2, column 1; the rightmost at rows 1 and 3, column 3: 127 is no ink.
    rows = (200 * (1 + 1 + 2 + 3) + 127 * 2) / (4 * 200 + 127)
    columns = (200 * (2 + 3 + 1 + 3) + 127 * 4) / (4 * 200 + 127)
    pixels = [(1, 2.5), (3, 3), (2, 1), (2, 3), (rows, columns)]
    assert found == pytest.approx((np.asarray(pixels) + 0.5) / (4, 5))
    assert found.dtype == np.float32 and len(found) == len(POINTS)


def test_one_pixel_is_all_points():
    image = np.zeros((1, 4, 4, 1), np.uint8)
    image[0, 2, 1] = INK
    assert ink_points(image).tolist() == [[[0.625, 0.375]] * 5]


@pytest.mark.parametrize(
    ("name", "task"), [("digits_landmarks", Landmarks()), ("digits_pose", Pose())]
)
def test_the_images_and_splits_are_those_of_the_digits(name, task):
    data, plain = load(name), load("digits")
    assert (data.name, data.task, data.classes) == (name, task, POINTS)
    assert (data.crop, data.flip) == (0, False)
    ours = data.train, data.search, data.open_test()
    theirs = plain.train, plain.search, plain.open_test()
    for split, digits in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(split.images, digits.images)
        assert split.labels.shape == (len(digits), 5, 2)
        assert ((split.labels > 0) & (split.labels < 1)).all()
        top, bottom, left, right, centre = split.labels.swapaxes(0, 1)
        assert (top[:, 0] <= centre[:, 0]).all() and (centre[:, 0] <= bottom[:, 0]).all()
        assert (left[:, 1] <= centre[:, 1]).all() and (centre[:, 1] <= right[:, 1]).all()


def test_no_image_is_in_two_splits():
    data = load("digits_landmarks")
    seen = [{image.tobytes() for image in split.images} for split in (data.train, data.search)]
    seen.append({image.tobytes() for image in data.open_test().images})
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
