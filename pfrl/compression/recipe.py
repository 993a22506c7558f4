"""How a policy is carried out: which channels go, what repairs them, how numbers are rounded."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints


class RecipeError(ValueError):
    """A recipe that makes no sense, or that needs data and got none."""


@dataclass(frozen=True)
class Recipe:
    """The methods of a compression; a policy says how much of each. Plain data.

    What a recipe needs to know of the base network is gathered once, by ``pfrl.survey``.
    """

    criterion: Literal[
        "l1",
        "l2",
        "bn_scale",
        "fpgm",
        "taylor",
        "activation",
        "random",
        "lasso",
        "proximal",
        "discrimination",
    ] = "l1"
    """Which channels stay."""
    normalise: bool = False
    """Whether every array's say in a channel's score is divided by its mean over the channels."""
    repair: Literal["none", "least_squares", "asymmetric"] = "none"
    """Closed-form repair of the layers that lost inputs: none, to the inputs of the base network,
    or to those of the layers before as they were repaired (slow: not for a search)."""
    ridge: float = 1e-4
    """Damping of the repairs, relative to the mean second moment of a layer's inputs."""
    pattern: Literal["magnitude", "2:4", "4:8"] = "magnitude"
    """Which weights of a sparse layer stay: the largest, or n of every m along the input."""
    sparse_repair: bool = False
    """Whether the weights that stay in sparse layers are refitted by least squares."""
    weights: Literal["minmax", "mse", "lsq", "codebook"] = "minmax"
    """How kernels are rounded: on a uniform grid per output channel whose step is the largest
    value's, the one of least squared error, or learned; or to a codebook per kernel."""
    codebook: Literal["weights", "clusters", "both"] = "both"
    """What training changes where kernels are rounded to a codebook."""
    calibration: Literal["minmax", "percentile", "mse", "entropy"] = "minmax"
    """Where the ranges of activations come from."""
    clips: Literal["fixed", "lsq", "pact"] = "fixed"
    """Whether training changes the ranges of activations: their step (LSQ) or their end (PACT)."""
    bias_correction: bool = False
    """Whether the mean shift that rounded kernels cause is taken out of biases or statistics."""
    images: int = 3_000
    """Training images that are looked at."""
    positions: int = 10
    """Random positions of each layer's output that the repairs look at, of every image."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            choices, value = get_args(kind), getattr(self, name)
            if choices and value not in choices:
                raise RecipeError(
                    f"unknown {name} '{value}'; expected one of {', '.join(map(str, choices))}"
                )
        for name, least in (("images", 1), ("positions", 1)):
            if getattr(self, name) < least:
                raise RecipeError(f"{name} is a whole number from 1, got {getattr(self, name)}")
        if not 0 < self.ridge < float("inf"):
            raise RecipeError(f"ridge is a number above 0, such as 1e-4, got {self.ridge}")

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
            return cls(**value)
        except TypeError as error:
            raise RecipeError(f"this is no recipe: {error}") from error


PLAIN = Recipe()
"""The largest L1 norms stay, nothing is repaired, extremes decide about grids."""
REPAIRED = Recipe(repair="least_squares")
"""The same, but what reads removed channels is refitted: how evaluations do it."""
