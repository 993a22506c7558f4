"""The hyper-parameters that ``pfrl tune`` searches: their ranges, and what the framework takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from experiments.settings.blocks import SettingsError
from experiments.settings.compression import FinishConfig
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.training.config import FitConfig

Values = dict[str, Any]
"""Hyper-parameters by name."""
NONE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Number:
    """A number from ``low`` to ``high``; with ``log`` all orders of magnitude are as likely."""

    name: str
    default: float
    low: float
    high: float
    log: bool = False

    @property
    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def searched(self) -> str:
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}"


@dataclass(frozen=True)
class Name:
    """One of several methods."""

    name: str
    default: str
    values: tuple[str, ...]

    @property
    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self.values)

    @property
    def searched(self) -> str:
        return ", ".join(self.values)


Parameter = Number | Name

_RECIPE, _FINISH, _FIT = Recipe(), FinishConfig(), FitConfig()

GROUPS: dict[str, tuple[Parameter, ...]] = {
    "lr": (Number("learning_rate", _FINISH.learning_rate, 0.004, 0.1, log=True),),
    "decay": (Number("weight_decay", _FIT.weight_decay, 1e-5, 5e-3, log=True),),
    "distillation": (
        Number("distillation_weight", _FINISH.distillation_weight, 0.0, 1.0),
        Number("temperature", _FINISH.temperature, 1.0, 10.0, log=True),
    ),
    # Those that any network has what they need for, in seconds.
    "criterion": (
        Name("criterion", _RECIPE.criterion, ("l1", "l2", "fpgm", "taylor", "activation")),
    ),
    "repair": (Name("repair", _RECIPE.repair, ("none", "least_squares")),),
    "quantizer": (
        Name("weights", _RECIPE.weights, ("minmax", "mse", "lsq")),
        Name("clips", _RECIPE.clips, ("fixed", "lsq", "pact")),
        Name("calibration", _RECIPE.calibration, ("minmax", "percentile", "mse", "entropy")),
        Number("quantizer_rate", _FIT.quantizer_rate, 0.01, 1.0, log=True),
    ),
    # Zhu and Gupta's schedule; its defaults are those of 'pfrl methods'.
    "sparsity": (
        Number("sparsity_end", 0.6, 0.2, 0.9),
        Number("sparsity_start", 0.3, 0.0, 1.0),
    ),
}
"""Every switch of ``--tune`` with what it searches.

``sparsity_end`` is the share of the steps in which weights go one after the other,
``sparsity_start`` the share of the final zeros at the first step.
"""

DEFAULTS: Values = {p.name: p.default for group in GROUPS.values() for p in group}
"""What the framework does without tuning."""


def applicable(policy: Policy, fixed: Mapping[str, Any] = NONE) -> tuple[str, ...]:
    """The switches that make a difference to a policy's network, but for those that are fixed."""
    quantized = {*policy.weight_bits.values(), *policy.act_bits.values()} != {FLOAT_BITS}
    absent = {
        "quantizer": not quantized,
        "sparsity": not any(policy.sparsity.values()),
        "criterion": "criterion" in fixed or all(share == 1 for share in policy.keep.values()),
    }
    return tuple(name for name in GROUPS if not absent.get(name, False))


def parameters_of(
    groups: Sequence[str] | None, policy: Policy, fixed: Mapping[str, Any] = NONE
) -> tuple[Parameter, ...]:
    """What is searched.

    Args:
      groups: switches; None takes all that apply.
      policy: whose network is trained.
      fixed: hyper-parameters that are not searched.

    Raises:
      SettingsError: if a switch makes no difference to the policy's network.
    """
    possible = applicable(policy, fixed)
    idle = [name for name in groups or () if name not in possible]
    if idle:
        raise SettingsError(
            f"'{idle[0]}' makes no difference to this policy; tune some of {', '.join(possible)}"
        )
    chosen = possible if groups is None else dict.fromkeys(groups)
    return tuple(parameter for name in chosen for parameter in GROUPS[name])


def defaults_of(parameters: Sequence[Parameter]) -> Values:
    """What the framework takes of what is searched."""
    return {parameter.name: parameter.default for parameter in parameters}


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """The methods among all hyper-parameters."""
    names = ("criterion", "repair", "weights", "clips", "calibration")
    return Recipe(**{name: values[name] for name in names})
