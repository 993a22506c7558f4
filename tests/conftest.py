"""What the tests share: quick compilation, bounded memory, pictures without a screen."""

import ctypes
import gc
import os
import signal
from pathlib import Path

import jax
import pytest

from experiments.settings.compilation_cache import use_compilation_cache

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CROWDED = 1.5 * 2**30
"""Bytes of memory above which a process forgets what it compiled for earlier tests."""
_most = CROWDED

# Compiling is most of the tests' time. Without MLIR's fusions it takes a third of it; those are
# tested by `make test-all`. XLA reads its flags at JAX's first computation, in child processes too.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if os.environ.get("PFRL_TESTS") != "as used":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
os.environ["MPLBACKEND"] = "Agg"
os.environ["PFRL_CACHE"] = str(ROOT / ".pytest_cache" / "pfrl")
use_compilation_cache()


@pytest.fixture(autouse=True)
def bounded_memory():
    """Keep a process that runs many tests small: what grew too large is forgotten between them."""
    global _most
    yield
    if _resident() > _most:
        jax.clear_caches()
        gc.collect()
        if hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)
        # What stays is in use: to forget it again after every test would only compile it again.
        _most = max(CROWDED, _resident() + CROWDED / 2)


def _resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the project; tests on its data and weights need it."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED}: it has data that is too large for the project")
    return SHARED


@pytest.fixture
def interruptible():
    """A job in a shell's background ignores Ctrl-C, and so would the processes that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
