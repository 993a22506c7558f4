"""How a policy is carried out: which channels go, what repairs them, how numbers are rounded."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pfrl.methods.channels.base import CRITERIA
from pfrl.methods.quantization.base import (
    ACTIVATION_QUANTIZERS,
    CALIBRATIONS,
    EQUALIZERS,
    ROUNDINGS,
    WEIGHT_QUANTIZERS,
)
from pfrl.methods.repair.base import REPAIRS
from pfrl.methods.sparsity.base import SPARSIFIERS
from pfrl.registry import Registry, RegistryError


class RecipeError(ValueError):
    """A recipe that makes no sense, or that needs data and got none."""


@dataclass(frozen=True)
class Recipe:
    """The methods of a compression; a policy says how much of each. Plain data.

    Methods are named as they are registered, those of users too (``pfrl.register``). What they
    need to know of the base network is gathered once, by ``pfrl.gather_statistics``.
    """

    criterion: str = "l1"
    """Which channels stay: those with the highest scores by l1, l2, bn_scale, fpgm, taylor,
    activation or random, or those that are chosen by lasso, proximal or discrimination."""
    normalise: bool = False
    """Whether every array's say in a channel's score is divided by its mean over the channels."""
    repair: str = "none"
    """Closed-form repair of the layers that lost inputs: none, to the inputs of the base network
    (least_squares), or to those of the layers before as they were repaired (asymmetric: slow, and
    not for a search)."""
    ridge: float = 1e-4
    """Damping of the repairs, relative to the mean second moment of a layer's inputs."""
    pattern: str = "magnitude"
    """Which weights of a sparse layer stay: the largest (magnitude), or n of every m along the
    input (2:4, 4:8)."""
    sparse_repair: bool = False
    """Whether the weights that stay in sparse layers are refitted by least squares."""
    weights: str = "minmax"
    """How kernels are rounded: on a uniform grid per output channel whose step is the largest
    value's (minmax), the one of least squared error (mse), or learned (lsq); or to a codebook per
    kernel, of which training changes the weights (codebook_weights), the centers
    (codebook_clusters) or both (codebook)."""
    calibration: str = "minmax"
    """Where the ranges of activations come from: the extremes (minmax), or the histogram, by
    percentile, by squared error (mse) or by divergence (entropy)."""
    clips: str = "fixed"
    """Whether training changes the ranges of activations: not (fixed), their step (lsq) or their
    end (pact)."""
    equalize: str = "none"
    """What is done to the base network before all else and leaves its answers as they are: nothing
    (none), or channels are scaled so that those of a tensor are of one size (cross_layer)."""
    rounding: str = "nearest"
    """To which point of its grid a weight goes: the nearest, or the one of two that leaves the
    layer's outputs least changed (adaround: slow, and not for a search; with minmax or lsq)."""
    bias_correction: bool = False
    """Whether the mean shift that rounded kernels cause is taken out of biases or statistics."""
    images: int = 3_000
    """Training images that are looked at; on a CPU no more than 512 of more than 128 pixels a side,
    at four times as many positions."""
    positions: int = 10
    """Random positions of each layer's output that the repairs look at, of every image."""

    def __post_init__(self) -> None:
        for name, least in (("images", 1), ("positions", 1)):
            if getattr(self, name) < least:
                raise RecipeError(f"{name} is a whole number from 1, got {getattr(self, name)}")
        if not 0 < self.ridge < float("inf"):
            raise RecipeError(f"ridge is a number above 0, such as 1e-4, got {self.ridge}")

    def checked(self) -> "Recipe":
        """Itself, if all methods that it names are registered.

        Raises:
          RecipeError: otherwise; the message lists those that are.
        """
        for field in dataclasses.fields(self):
            name = getattr(self, field.name)
            # The defaults are there; to look them up would import JAX.
            if field.name in METHODS and name != field.default:
                try:
                    METHODS[field.name][name]
                except RegistryError as error:
                    raise RecipeError(str(error)) from error
        if self.rounding != "nearest":
            known = ROUNDINGS[self.rounding].quantizers
            if known and self.weights not in known:
                raise RecipeError(
                    f"the rounding '{self.rounding}' goes with weights by"
                    f" {' or '.join(sorted(known))}, got '{self.weights}'"
                )
        return self

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Recipe":
        """The recipe that ``to_json`` wrote; fields that are missing have their defaults.

        Raises:
          RecipeError: if ``value`` is none.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(value, dict) or not set(value) <= names:
            raise RecipeError(f"expected a recipe as an object of {', '.join(sorted(names))}")
        try:
            return cls(**value).checked()
        except TypeError as error:
            raise RecipeError(f"this is no recipe: {error}") from error


METHODS: Mapping[str, Registry[Any]] = {
    "criterion": CRITERIA,
    "repair": REPAIRS,
    "pattern": SPARSIFIERS,
    "weights": WEIGHT_QUANTIZERS,
    "calibration": CALIBRATIONS,
    "clips": ACTIVATION_QUANTIZERS,
    "equalize": EQUALIZERS,
    "rounding": ROUNDINGS,
}
"""By field of a recipe that names a method, the methods that there are."""
PLAIN = Recipe()
"""The largest L1 norms stay, nothing is repaired, extremes decide about grids."""
REPAIRED = Recipe(repair="least_squares")
"""The same, but what reads removed channels is refitted: how evaluations do it."""
ROUNDED = dataclasses.replace(REPAIRED, bias_correction=True)
"""The same where numbers are rounded: the mean shift of every layer is taken out again."""
