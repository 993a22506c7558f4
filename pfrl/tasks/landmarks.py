"""Landmark regression: the network names the coordinates of points."""

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

SAME_POINT = 1e-3
"""Two outputs agree on a point up to this share of the image's side."""


@register("task", "landmarks")
@dataclass(frozen=True)
class Landmarks:
    """Outputs are coordinates ``[N, 2K]``, targets points float32 ``[N, K, 2]``.

    Both are ``(row, column)`` of one point after another, as shares of the
    image's height and width; see ``pfrl.tasks.points``.
    """

    between: tuple[int, int] | None = None
    """Two points whose distance errors are divided by, such as the outer corners of the eyes.
    None: the diagonal of the smallest upright box round the true points."""
    aspect: float = 1.0
    """Width of the images over their height."""
    wing: float = 10 / 64
    """The wing loss's w, a share of the image's side: up to it errors weigh logarithmically."""
    bend: float = 2 / 64
    """The wing loss's ε, likewise: the smaller it is, the more small errors weigh."""

    dense = False
    invariant = False

    @property
    def wording(self) -> Wording:
        of = "the diagonal of the box round the true points"
        if self.between is not None:
            of = "the distance of the true points {} and {}".format(*self.between)
        return Wording(
            metric="NME",
            error=True,
            definition=(
                "NME: normalised mean error, the mean distance of an image's points from where they"
                f" are in truth, over {of}; 100 % at most, and lower is better. Rewards"
                " see 1 − NME."
            ),
            agreement=f"place every point within {100 * SAME_POINT:g} % of the image's side for",
            outputs="points",
            reading=(
                "print(points.reshape(len(points), -1, 2))"
                "  # (row, column) as shares of height and width"
            ),
            names="Points",
        )

    def outputs(self, classes: int) -> int:
        return 2 * classes

    def check(self, targets: np.ndarray, names: int) -> None:
        check_points(targets, names, (2,), self.between)

    def loss(self, outputs: jax.Array, targets: Any) -> jax.Array:
        """The wing loss (Feng et al. 2018, arXiv 1711.06753), mean over the coordinates.

        ``w · ln(1 + |e| / ε)`` where ``|e| < w``, else ``|e| - w + w · ln(1 + w / ε)``. By
        default w and ε are the paper's 10 and 2 pixels of images that are 64 pixels wide.
        """
        errors = jnp.abs(outputs - jnp.asarray(targets).reshape(outputs.shape))
        near = self.wing * jnp.log1p(errors / self.bend)
        far = errors - self.wing + self.wing * np.log1p(self.wing / self.bend)
        return jnp.where(errors < self.wing, near, far).mean()

    def divergence(self, outputs: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
        """The loss with the teacher's points as targets."""
        return self.loss(outputs, teacher)

    def nme(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Normalised mean error ``[N]``: mean distance over the image's own unit of length.

        As for faces in Sagonas et al., 300 Faces In-the-Wild Challenge, ICCV workshops 2013,
        which divides by the distance between the outer corners of the eyes.
        """
        targets = np.asarray(targets)
        points = np.asarray(outputs).reshape(targets.shape)
        if self.between is None:
            sides = box_sides(targets, self.aspect)
            unit = np.sqrt(np.square(sides).sum(-1))
        else:
            unit = distance_between(targets, self.between, self.aspect)
        mean = distances(points, targets, self.aspect).mean(-1)
        return mean / np.maximum(unit, SMALLEST_SIZE)

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """``1 - NME``; 0 where the error is as large as the unit, or larger."""
        return 1 - np.minimum(self.nme(outputs, targets), 1)

    def agree(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Where every coordinate is the same up to ``SAME_POINT``."""
        return np.abs(np.asarray(outputs) - np.asarray(others)).max(-1) <= SAME_POINT
