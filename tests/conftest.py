"""What the tests share: pictures without a screen, and the folder of data beside the project."""

import os
import signal
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "Agg"

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
