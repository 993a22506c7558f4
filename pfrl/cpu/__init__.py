"""What makes training fast on CPUs: convolutions by oneDNN, and processes of one core each."""

from pfrl.cpu.process import give_back, keep_memory, take_core
from pfrl.cpu.rewrite import fast
from pfrl.cpu.workers import become_worker, core_pool, cores

__all__ = [
    "become_worker",
    "core_pool",
    "cores",
    "fast",
    "give_back",
    "keep_memory",
    "take_core",
]
