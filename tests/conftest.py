"""What the tests share: quick compilation, bounded memory, pictures without a screen."""

import ctypes
import gc
import os
import signal
import sys
from pathlib import Path

import hypothesis
import jax
import pytest

from experiments.settings.compilation_cache import use_compilation_cache
from pfrl import registry
from pfrl.cpu.process import resident

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
WORK = "experiments.ablations.works."
CROWDED, GROWN = 2.0 * 2**30, 0.5 * 2**30
"""Bytes of memory above which a process forgets what it compiled for earlier tests, and how much
more than it had then it has to have before it does so again."""

# Compiling is most of the tests' time. Without MLIR's fusions it takes a third of it, and without
# LLVM's optimisations less still; with both is `make test-all`. XLA reads its flags at JAX's first
# computation, in child processes too. Each stands there once, however many processes lie between:
# kept programs are found by them.
QUICK = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_backend_optimization_level=0",
)
AS_USED = os.environ.get("PFRL_TESTS") == "as used"
if not AS_USED:
    flags = [*os.environ.get("XLA_FLAGS", "").split(), *QUICK]
    os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys(flags))
os.environ["MPLBACKEND"] = "Agg"
# A terminal of one size without colours. Examples may take as long as a busy machine needs, and
# are the same every time, but for those of `make test-all`.
os.environ.update(COLUMNS="80", LINES="24")
for name in ("FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(name, None)
hypothesis.settings.register_profile(
    "steady",
    deadline=None,
    derandomize=not AS_USED,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")
# Tracing makes so many objects that looking for garbage as often as usual takes a twentieth.
gc.set_threshold(50_000, 20, 50)
os.environ["PFRL_CACHE"] = str(ROOT / ".pytest_cache" / "pfrl")
use_compilation_cache()


@pytest.fixture(autouse=True)
def bounded_memory():
    """Keep a process that runs many tests small: what grew too large is forgotten between them."""
    yield
    if resident() > max(CROWDED, _left[-1] + GROWN):
        jax.clear_caches()
        gc.collect()
        if hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)
        _left.append(resident())


_left = [0]
"""Bytes that were in use after everything had been forgotten, each time."""


def of_users() -> list[tuple[str, str]]:
    """Kind and name of what files of users and experiments registered."""
    places = registry._places.items()
    return [key for key, place in places if place.startswith(("pfrl_user", WORK))]


def pytest_collection_finish() -> None:
    """Refuse what a test file brings into the parameters of every other one."""
    if found := of_users():
        raise pytest.UsageError(f"{found} was registered by importing a test file; do it in a test")


@pytest.fixture(scope="module", autouse=True)
def nothing_of_users():
    """What files of users and experiments registered is forgotten before the next file of tests."""
    yield
    registry._loaded.clear()
    for kind, name in of_users():
        # Imported again, it registers again.
        sys.modules.pop(registry._places.pop((kind, name)), None)
        registry._items[kind].pop(name, None)


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
