"""Compression as a decision process: importing this registers the environments ``pfrl/...-v0``.

- ``pfrl/Compression-v0``: any knobs.
- ``pfrl/ChannelPruning-v0``: how many channels stay.
- ``pfrl/MixedPrecision-v0``: bit widths of kernels and of what goes into them.
- ``pfrl/Sparsity-v0``: shares of zeros.
- ``pfrl/LowRank-v0``: ranks of decomposed layers.
"""

import gymnasium

from envs.problem import OpenedTask, Problem, Task
from envs.task import NetworkTask

__all__ = ["NetworkTask", "OpenedTask", "Problem", "Task"]

gymnasium.register(
    id="pfrl/Compression-v0",
    entry_point="envs.compression:CompressionEnv",
    vector_entry_point="envs.vector:CompressionVectorEnv",
)
for _name in ("ChannelPruning", "MixedPrecision", "Sparsity", "LowRank"):
    gymnasium.register(
        id=f"pfrl/{_name}-v0",
        entry_point=f"envs.registered:{_name}Env",
        vector_entry_point=f"envs.vector:{_name}VectorEnv",
    )
