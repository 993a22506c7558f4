"""What makes training fast on CPUs: convolutions in other forms, and processes of one core each."""

from pfrl.cpu.process import keep_memory, take_core
from pfrl.cpu.rewrite import fast

__all__ = ["fast", "keep_memory", "take_core"]
