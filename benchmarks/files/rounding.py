"""What methods of post-training quantization leave of a trained network's accuracy.

    python -m benchmarks.files.rounding resnet20 imagefolder:cifar10.zip resnet20.npz

Every row is a recipe without any training; judged on the search split, by the simulation that the
files of integers are checked against: its quality, and how far the outputs are off those of the
network in floats, as mean squared error over their variance. That says more than a quality, whose
noise is larger than what recipes of 8 bits differ by. The first and the last layer have 8 bits.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from envs.task import load_network
from pfrl.compression.calibration import gather_from
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import compress

PLAIN = Recipe(images=1024)
RECIPES = {
    "nearest": PLAIN,
    "bias correction": replace(PLAIN, bias_correction=True),
    "equalization": replace(PLAIN, equalize="cross_layer"),
    "equalization, bias correction": replace(PLAIN, equalize="cross_layer", bias_correction=True),
    "steps of least error": replace(PLAIN, weights="mse"),
    "steps of least error, bias correction": replace(PLAIN, weights="mse", bias_correction=True),
    "AdaRound": replace(PLAIN, rounding="adaround"),
    "AdaRound, bias correction": replace(PLAIN, rounding="adaround", bias_correction=True),
    **{
        f"ranges by {name}, bias correction": replace(PLAIN, calibration=name, bias_correction=True)
        for name in ("percentile", "mse", "entropy")
    },
    "3,000 images, bias correction": replace(PLAIN, images=3_000, bias_correction=True),
}
BITS = (8, 4)
"""Of weights; what goes into layers has 8."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Post-training quantization by several recipes.")
    for name in ("model", "data", "weights"):
        parser.add_argument(name)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), help="some of the rows")
    parser.add_argument("--bits", nargs="*", type=int, default=BITS, help="of weights")
    options = parser.parse_args()
    dataset, graph = load_network(options.model, options.data, options.weights)
    source, task, split = graph.source, dataset.task, dataset.search

    def outputs(function: Callable[[Any], Any]) -> np.ndarray:
        compiled = jax.jit(function)
        return np.concatenate([compiled(x) for x, _ in dataset.batches(split, 500)])

    def quality(found: np.ndarray) -> float:
        return 100 * float(np.mean(task.quality(found, np.asarray(split.labels))))

    exact = outputs(lambda x: source.apply(source.variables, x, False)[0])
    print(f"floats: {quality(exact):.2f}", flush=True)
    for name in options.recipes:
        recipe = RECIPES[name]
        seen = gather_from(graph, recipe, dataset, 0, True)
        found = []
        for bits in options.bits:
            start = time.process_time()
            policy = Policy.uniform(graph, 1.0, bits, 8).with_edges(graph, 8)
            small = compress(source, policy, graph=graph, statistics=seen)
            spent = time.process_time() - start
            rounded = outputs(small)
            error = np.square(rounded - exact).mean() / exact.var()
            found.append(f"{quality(rounded):.2f}, error {error:.2e} ({spent:.1f} s)")
        print(f"{name}: {'; '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
