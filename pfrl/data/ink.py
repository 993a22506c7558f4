"""Points of handwritten digits, for trying out tasks of points without a network or a download.

The images are real, their targets are computed from the pixels: the ends of the ink and its centre
of mass. They show that training, compression and reports work; they are no benchmark.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from pfrl.data.base import Dataset, Split
from pfrl.data.sources import digits
from pfrl.registry import register
from pfrl.tasks import Landmarks, Pose, Task

POINTS = ("top", "bottom", "left", "right", "centre of mass")
INK = 128
"""Pixels from this value on are ink; every digit has some."""


def ink_points(images: np.ndarray) -> np.ndarray:
    """The five ``POINTS`` of images uint8 ``[N, H, W, 1]``, as ``(row, column)`` shares.

    The topmost point is in the first row that has ink, in the middle of the
    row's ink (the mean column of its ink pixels); the others likewise. The
    centre of mass is that of all pixels, weighted by their values.

    Returns:
      float32 ``[N, 5, 2]``, as in ``pfrl.tasks.points``.
    """
    grey = images[..., 0].astype(float)
    ink = grey >= INK
    turned = ink.swapaxes(1, 2)
    top, bottom = _first_row(ink), _last_row(ink)
    left, right = (_first_row(turned)[:, ::-1], _last_row(turned)[:, ::-1])
    points = np.stack([top, bottom, left, right, _centre(grey)], 1)
    return ((points + 0.5) / images.shape[1:3]).astype(np.float32)


@register("dataset", "digits_landmarks")
def digits_landmarks() -> Dataset:
    """The digits with the coordinates of their five ``POINTS``, in the splits of ``digits``."""
    return _pointed("digits_landmarks", Landmarks())


@register("dataset", "digits_pose")
def digits_pose() -> Dataset:
    """The digits with a heat map for each of the five ``POINTS``, all of which are visible."""
    return _pointed("digits_pose", Pose())


def _pointed(name: str, task: Task) -> Dataset:
    plain = digits()
    return replace(
        plain,
        name=name,
        train=_with_points(plain.train),
        search=_with_points(plain.search),
        open_test=partial(_open_test, plain),
        classes=POINTS,
        crop=0,
        task=task,
    )


def _with_points(split: Split) -> Split:
    return Split(split.images, ink_points(split.images))


def _open_test(plain: Dataset) -> Split:
    return _with_points(plain.open_test())


def _first_row(ink: np.ndarray) -> np.ndarray:
    """The first row of ``ink`` ``[N, H, W]`` with ink, and the mean column of it: ``[N, 2]``."""
    row = ink.any(2).argmax(1)
    there = ink[np.arange(len(ink)), row]
    columns = np.arange(ink.shape[2])
    return np.stack([row, (there * columns).sum(1) / there.sum(1)], 1)


def _last_row(ink: np.ndarray) -> np.ndarray:
    """As ``_first_row``, from below."""
    return np.abs(_first_row(ink[:, ::-1]) - (ink.shape[1] - 1, 0))


def _centre(grey: np.ndarray) -> np.ndarray:
    """Row and column ``[N, 2]`` of the centre of mass of ``grey`` ``[N, H, W]``."""
    mass = grey.sum((1, 2))
    rows, columns = (np.arange(size) for size in grey.shape[1:])
    return np.stack([grey.sum(2) @ rows, grey.sum(1) @ columns], 1) / mass[:, None]
