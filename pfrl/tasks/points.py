"""Points in images: how far apart they are, and how large what they mark is.

A point is ``(row, column)`` as shares of the image's height and width: ``(0, 0)`` is the upper
left corner of the upper left pixel, ``(1, 1)`` the lower right corner of the lower right one, so
the centre of pixel ``(i, j)`` is ``((i + ½) / H, (j + ½) / W)``. Lengths are in heights of the
image; ``aspect`` is its width over its height.
"""

import numpy as np

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
