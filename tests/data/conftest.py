"""What several tests of data need."""

import pytest

from tests.support.folders import fill


@pytest.fixture
def root(tmp_path):
    """Two classes with 20 training, 3 search and 2 test images each."""
    folder = tmp_path / "images"
    for split, count in [("train", 20), ("val", 3), ("test", 2)]:
        fill(folder, split, ("cat", "dog"), count)
    return folder
