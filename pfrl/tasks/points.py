"""Points in images: how far apart they are, and how large what they mark is.

A point is ``(row, column)`` as shares of the image's height and width: ``(0, 0)`` is the upper
left corner of the upper left pixel, ``(1, 1)`` the lower right corner of the lower right one, so
the centre of pixel ``(i, j)`` is ``((i + ½) / H, (j + ½) / W)``. Lengths are in heights of the
image; ``aspect`` is its width over its height.
"""

import numpy as np

from pfrl.tasks.base import TargetError

SMALLEST_SIZE = 1e-3
"""In heights of the image: what marks less counts as this, so that no distance becomes infinite."""


def distances(points: np.ndarray, others: np.ndarray, aspect: float = 1.0) -> np.ndarray:
    """Euclidean ``[...]`` between points ``[..., 2]`` and others."""
    across = (np.asarray(points, float) - np.asarray(others, float)) * (1.0, aspect)
    return np.sqrt(np.square(across).sum(-1))


def box_sides(
    points: np.ndarray, aspect: float = 1.0, visible: np.ndarray | None = None
) -> np.ndarray:
    """Height and width ``[N, 2]`` of the smallest upright box round the points ``[N, K, 2]``.

    Points that are not ``visible`` (boolean ``[N, K]``) are left out; without any, 0.
    """
    points = np.asarray(points, float)
    seen = np.broadcast_to(True if visible is None else visible[..., None], points.shape)
    low = np.min(points, 1, where=seen, initial=np.inf)
    high = np.max(points, 1, where=seen, initial=-np.inf)
    return np.maximum(high - low, 0.0) * (1.0, aspect)


def distance_between(points: np.ndarray, pair: tuple[int, int], aspect: float = 1.0) -> np.ndarray:
    """From one point to another ``[N]``, such as from eye to eye, of points ``[N, K, 2]``."""
    first, second = pair
    return distances(points[:, first], points[:, second], aspect)


def check_points(
    points: np.ndarray, names: int, widths: tuple[int, ...], between: tuple[int, int] | None
) -> None:
    """Look at a user's points.

    Args:
      points: ``[N, K, 2]``, or ``[N, K, 3]`` with whether each is visible.
      names: how many points have a name.
      widths: which lengths the last axis may have.
      between: the points whose distance errors are divided by; None: the box round all.

    Raises:
      TargetError: if they are not as above or not in the image, or if an image has nothing that
        errors could be divided by.
    """
    shaped = points.ndim == 3 and points.shape[2] in widths and points.shape[1] == names
    if not shaped or not np.issubdtype(points.dtype, np.floating):
        raise TargetError(
            f"targets {points.dtype} {list(points.shape)}, expected floats"
            f" [N, {names}, {' or '.join(map(str, widths))}]: points of {names} names"
        )
    places = points[..., :2]
    visible = points[..., 2] > 0 if points.shape[2] == 3 else np.ones(points.shape[:2], bool)
    if not np.isfinite(points).all() or not ((places >= 0) & (places <= 1))[visible].all():
        raise TargetError(
            "points outside of the image or that are no numbers, expected (row, column) from 0 to"
            " 1, shares of the image's height and width"
        )
    which, apart = "", box_sides(places, visible=visible).max(-1) > 0
    if between is not None:
        numbers = len(between) == 2 and all(isinstance(number, int) for number in between)
        if not numbers or not 0 <= between[0] < between[1] < names:
            raise TargetError(
                f"between {list(between)}, expected the numbers of two of {names} points"
            )
        which = " {} and {}".format(*between)
        apart &= (distance_between(places, between) > 0) & visible[:, between].all(1)
    if not apart.all():
        raise TargetError(
            f"no two different visible points{which} in image {int(apart.argmin())}, and errors are"
            " judged by their distance; leave out such images"
            + (" or 'between'" if between is not None else "")
        )
