"""How long a train step waits for pictures that are read from their files while it trains."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import jax
import numpy as np
from PIL import Image

from pfrl.cpu.backend import compiled
from pfrl.data import Dataset, load, streams
from pfrl.graph import from_nnx, split_variables
from pfrl.models.catalogue import build
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step

PICTURES, SIDE, SIZE, BATCH = 512, 256, 32, 64
"""JPEG files, pixels of their sides and of those that are trained on, and pictures a step."""
WARM = 3
"""Steps before those that are timed: they compile, and start the loader's processes."""


@contextmanager
def streamed(folder: Path, seed: int) -> Iterator[Dataset]:
    """A data set of smooth noise in files, of which nothing is held in memory."""
    rng = np.random.default_rng(seed)
    for number in range(PICTURES):
        path = folder / "train" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    with patch.object(streams, "IN_MEMORY", 0):
        yield load(f"imagefolder:{folder}?size={SIZE}")


class Fed(NamedTuple):
    """Of the timed steps together: seconds that they waited for their batches, and computed."""

    waiting: float
    computing: float
    images: int

    @property
    def share(self) -> float:
        """Of the wall time in which a step waits."""
        return self.waiting / (self.waiting + self.computing)


def feed(model: str, steps: int, seed: int) -> Fed:
    """Train a network of the zoo on photographs that ``pfrl.data.streams`` reads and crops."""
    with TemporaryDirectory() as folder, streamed(Path(folder), seed) as dataset:
        source = from_nnx(build(model, len(dataset.classes), dataset.image_shape, seed))
        parameters, statistics = split_variables(source)
        optimizer = sgd(0.02, 5e-4)
        state = jax.device_put(TrainState(parameters, statistics, optimizer.init(parameters)))
        step = compiled(make_train_step(source.apply, optimizer), donate_argnums=0)
        # As many as a training has, for short ones are read without processes.
        asked = max(streams.IN_PROCESSES, WARM + steps)
        batches = dataset.training_batches(BATCH, np.random.default_rng(seed), asked)
        waited, computed = [], []
        for _ in range(WARM + steps):
            start = time.perf_counter()
            x, labels = next(batches)
            given = time.perf_counter()
            state, loss = step(state, x, labels, None)
            loss.block_until_ready()
            waited.append(given - start)
            computed.append(time.perf_counter() - given)
        del batches  # which ends the loader's processes
    return Fed(sum(waited[WARM:]), sum(computed[WARM:]), steps * BATCH)
