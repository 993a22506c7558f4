"""Heat-map pose: for every key point the network draws a map that is brightest where the point is.

A cell of a map of ``H' × W'`` cells is a part of the image: the centre of cell
``(i, j)`` is the point ``((i + ½) / H', (j + ½) / W')``.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.registry import register
from pfrl.tasks.base import Wording
from pfrl.tasks.points import (
    SMALLEST_SIZE,
    box_sides,
    check_points,
    distance_between,
    distances,
)


@register("task", "pose")
@dataclass(frozen=True)
class Pose:
    """Outputs are maps ``[N, H', W', K]``, targets points float32 ``[N, K, 2]`` or ``[N, K, 3]``.

    Points are ``(row, column)`` as shares of the image's height and width (see
    ``pfrl.tasks.points``), and a third number is above 0 where the point is
    visible; what is not visible is neither trained nor judged.
    """

    alpha: float = 0.1
    """A key point counts as found within this share of the unit."""
    between: tuple[int, int] | None = None
    """Two points whose distance is the unit, such as a shoulder and the opposite hip. None: the
    longer side of the smallest upright box round the visible points."""
    sigma: float = 1.0
    """Width (standard deviation) of the bright spot in a target map, in cells."""
    refine: bool = True
    """Whether a point is moved a quarter of a cell towards the brighter neighbour."""
    aspect: float = 1.0
    """Width of the images over their height."""

    dense = True
    invariant = False

    @property
    def wording(self) -> Wording:
        of = "the longer side of the box round the visible points"
        if self.between is not None:
            of = "the distance of the true points {} and {}".format(*self.between)
        metric = f"PCK@{self.alpha:g}"
        moved = ", moved a quarter of a cell towards the brighter neighbours" if self.refine else ""
        return Wording(
            metric=metric,
            error=False,
            definition=(
                f"{metric}: percentage of correct key points, the share of an image's visible key"
                f" points that are found within {self.alpha:g} of {of}, mean over the images. A"
                f" point is found where its map is brightest{moved}."
            ),
            agreement="have all maps brightest in the same cells for",
            outputs="maps",
            reading="\n".join(
                (
                    "count, height, width, points = maps.shape",
                    "cells = maps.reshape(count, -1, points).argmax(1)",
                    "# Row and column of every point, as shares of height and width.",
                    "print((cells // width + 0.5) / height, (cells % width + 0.5) / width)",
                )
            ),
            names="Key points",
        )

    def outputs(self, classes: int) -> int:
        return classes

    def check(self, targets: np.ndarray, names: int) -> None:
        check_points(targets, names, (2, 3), self.between)

    def heat_maps(self, targets: Any, height: int, width: int) -> jax.Array:
        """What maps ``[N, height, width, K]`` should look like: a Gaussian of height 1 a point."""

        def along(share: jax.Array, cells: int) -> jax.Array:
            offset = jnp.arange(cells)[None, :, None] + 0.5 - cells * share[:, None, :]
            return jnp.exp(-jnp.square(offset) / (2 * self.sigma**2))

        targets = jnp.asarray(targets)
        rows, columns = along(targets[..., 0], height), along(targets[..., 1], width)
        return rows[:, :, None, :] * columns[:, None, :, :]

    def loss(self, outputs: jax.Array, targets: Any) -> jax.Array:
        """Squared difference from the target maps: mean over examples and cells, sum over points.

        As in Tompson et al. 2014 (arXiv 1406.2984) and Xiao et al. 2018 (arXiv 1804.06208);
        points that are not visible count as 0.
        """
        _, height, width, _ = outputs.shape
        squares = jnp.square(outputs - self.heat_maps(targets, height, width)).mean((1, 2))
        return (squares * _visible(jnp.asarray(targets))).sum(-1).mean()

    def divergence(self, outputs: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
        """Squared difference from the teacher's maps, as in the loss."""
        return jnp.square(outputs - teacher).mean((1, 2)).sum(-1).mean()

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """PCK: which share of the visible points is found within ``alpha`` units.

        Yang and Ramanan, Articulated human detection with flexible mixtures of parts, TPAMI 35,
        2013. An example without visible points has quality 0.
        """
        targets = np.asarray(targets)
        visible = _visible(targets)
        truth = targets[..., :2]
        if self.between is None:
            unit = box_sides(truth, self.aspect, visible).max(-1)
        else:
            unit = distance_between(truth, self.between, self.aspect)
        reach = self.alpha * np.maximum(unit, SMALLEST_SIZE)
        found = distances(self.points(outputs), truth, self.aspect) <= reach[:, None]
        return (found & visible).sum(-1) / np.maximum(visible.sum(-1), 1)

    def points(self, outputs: np.ndarray) -> np.ndarray:
        """Where the maps ``[N, H', W', K]`` are brightest: points ``[N, K, 2]``.

        With ``refine`` a quarter of a cell towards the brighter of both neighbours along each
        axis (Newell et al. 2016, arXiv 1603.06937); at an edge of the map as it is.
        """
        maps = np.moveaxis(np.asarray(outputs), -1, 1)
        cells = _brightest(maps)
        place = cells + 0.5
        if self.refine:
            place = place + 0.25 * np.stack([_slope(maps, cells, axis) for axis in (0, 1)], -1)
        return place / maps.shape[2:]

    def agree(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Where all maps are brightest in the same cell."""
        first, second = (_brightest(np.moveaxis(np.asarray(o), -1, 1)) for o in (outputs, others))
        return (first == second).all((1, 2))


def _visible(targets: Any) -> Any:
    """Boolean ``[N, K]``."""
    if targets.shape[-1] == 2:
        return np.ones(targets.shape[:-1], bool)
    return targets[..., 2] > 0


def _brightest(maps: np.ndarray) -> np.ndarray:
    """The cell ``[N, K, 2]`` at which maps ``[N, K, H', W']`` are largest, the first of equals."""
    count, points, height, width = maps.shape
    best = maps.reshape(count, points, height * width).argmax(-1)
    return np.stack(np.divmod(best, width), -1)


def _slope(maps: np.ndarray, cells: np.ndarray, axis: int) -> np.ndarray:
    """Sign ``[N, K]`` of the difference of both neighbours along an axis; 0 at the map's edges."""
    last = maps.shape[2 + axis] - 1
    at = [*np.ogrid[: maps.shape[0], : maps.shape[1]], cells[..., 0], cells[..., 1]]
    after, before = list(at), list(at)
    after[2 + axis] = np.minimum(at[2 + axis] + 1, last)
    before[2 + axis] = np.maximum(at[2 + axis] - 1, 0)
    inside = (at[2 + axis] > 0) & (at[2 + axis] < last)
    after, before = maps[tuple(after)], maps[tuple(before)]
    # Not of their difference: a network that has diverged answers with infinities.
    return (1.0 * (after > before) - (after < before)) * inside
