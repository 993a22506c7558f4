"""How a process gets all of a core: pinned to it, one thread, memory that is kept.

Two processes on two cores train nearly twice as much as one process on both, for
most of XLA's operations on a small network use one thread anyhow.
"""

import ctypes
import os
from pathlib import Path

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
"""XLA's flag for products and convolutions on one thread."""

SLACK = 384 * 2**20
"""Bytes that a process may grow by before it gives memory back."""

# Names and numbers of glibc's malloc.h. No maps of its own: what is freed stays on the heap, and
# the heap never shrinks; one heap for all threads, for a thread's own one does shrink.
_MALLOC_OPTIONS = {
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_MMAP_MAX": (-4, 0),
    "M_ARENA_MAX": (-8, 1),
}


def keep_memory() -> bool:
    """Keep what is freed for the next allocation instead of giving it back to the system.

    XLA allocates the memory of a program's intermediate values, hundreds of MB
    in training, at every call. Given back and taken again, every page of it is
    cleared by the system at its first touch: a fifth of a train step of ResNet-20.

    Works for the whole process, best before anything is computed. Returns
    whether the C library could be told: only glibc (Linux) can.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(number, value) == 1 for number, value in _MALLOC_OPTIONS.values())


def give_back() -> None:
    """Give what is kept and not used back to the system, if that has become much.

    Compiling and programs of many sizes leave holes that the next arrays do not fit into. To be
    called between stretches of work; what the next one needs is cleared by the system once more,
    which takes some tenths of a second.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None and resident() > _given_back[0] + SLACK:
        trim(0)
        _given_back[0] = resident()


_given_back = [0]
"""Resident memory after the last time, in bytes."""


def resident() -> int:
    """Bytes of memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def take_core(core: int) -> None:
    """Pin this process to one core (where the system can) and let XLA use one thread.

    Call it before JAX's first computation, which reads the flags.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    flags = os.environ.get("XLA_FLAGS", "").split()
    # Programs that were compiled are kept by these flags: one that stands there twice is another.
    os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys([*flags, ONE_THREAD]))
    keep_memory()
