"""Compression as a decision process: importing this registers the environments ``pfrl/...-v0``.

- ``pfrl/Compression-v0``: any knobs.
- ``pfrl/ChannelPruning-v0``: how many channels stay, as AMC decides (arXiv 1802.03494).
- ``pfrl/MixedPrecision-v0``: bit widths of kernels and of what goes into them, as HAQ decides
  (arXiv 1811.08886).
- ``pfrl/Sparsity-v0``: shares of zeros; of the budgets, packed alone counts them.
- ``pfrl/LowRank-v0``: ranks of decomposed layers.
- ``pfrl/AnyBudget-v0``: any knobs, and every episode draws the limit that holds for it.

All are ``envs.compression.CompressionEnv``, whose docstring is their specification. The names
below load on first use: settings read ``envs.knobs`` without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

from envs.knobs import KNOBS

if TYPE_CHECKING:
    from envs.problem import OpenedTask, Problem, Task
    from envs.task import NetworkTask

__all__ = ["NetworkTask", "OpenedTask", "Problem", "Task"]

_ENVIRONMENTS = {
    "Compression": tuple(KNOBS),
    "ChannelPruning": ("keep",),
    "MixedPrecision": ("weight_bits", "act_bits"),
    "Sparsity": ("sparsity",),
    "LowRank": ("rank",),
}
for _name, _knobs in _ENVIRONMENTS.items():
    gymnasium.register(
        id=f"pfrl/{_name}-v0",
        entry_point="envs.compression:CompressionEnv",
        vector_entry_point="envs.vector:CompressionVectorEnv",
        kwargs={"knobs": _knobs},
    )
gymnasium.register(
    id="pfrl/AnyBudget-v0",
    entry_point="envs.compression:CompressionEnv",
    kwargs={"any_budget": True},
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'envs' has no attribute '{name}'")
    place = "envs.task" if name == "NetworkTask" else "envs.problem"
    return getattr(importlib.import_module(place), name)
