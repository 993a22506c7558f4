"""What methods of post-training quantization leave of a trained network's accuracy.

    python -m benchmarks.files.rounding resnet20 imagefolder:cifar10.zip resnet20.npz

Every row is a recipe without any training; judged on the search split, by the simulation that the
files of integers are checked against. The first and the last layer have 8 bits.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from envs.task import load_network
from pfrl.compression.calibration import gather_from
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import compress
from pfrl.training.fit import mean_quality

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
}
BITS = (8, 4)
"""Of weights; what goes into layers has 8."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Post-training quantization by several recipes.")
    for name in ("model", "data", "weights"):
        parser.add_argument(name)
    options = parser.parse_args()
    dataset, graph = load_network(options.model, options.data, options.weights)
    source = graph.source

    def judged(function: Callable[[Any], Any]) -> float:
        return 100 * mean_quality(jax.jit(function), dataset, dataset.search)

    print(f"base {judged(lambda x: source.apply(source.variables, x, False)[0]):.2f}", flush=True)
    for name, recipe in RECIPES.items():
        seen = gather_from(graph, recipe, dataset, 0, True)
        found = []
        for bits in BITS:
            start = time.process_time()
            policy = Policy.uniform(graph, 1.0, bits, 8).with_edges(graph, 8)
            small = compress(source, policy, graph=graph, statistics=seen)
            spent = time.process_time() - start
            found.append(f"{judged(small):.2f} ({spent:.1f} s)")
        print(f"{name}: {', '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
