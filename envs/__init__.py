"""Compression as a decision process: importing this registers ``pfrl/Compression-v0``."""

import gymnasium

from envs.problem import Problem, Runtime, Task
from envs.task import NetworkTask

__all__ = ["NetworkTask", "Problem", "Runtime", "Task"]

gymnasium.register(id="pfrl/Compression-v0", entry_point="envs.compression:CompressionEnv")
