"""How far predicted latencies are off: random policies, predicted and then measured in turns.

python -m benchmarks.files.latency --model resnet20 --runtime litert
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import tyro

from experiments.records.machine import machine
from experiments.run.latency import INTEGER_BITS, measure_latency, measure_policies
from pfrl.bounds import Count
from pfrl.compression.policy import Policy, round_count
from pfrl.graph import trace
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.models.catalogue import build

IMAGE, CLASSES = (32, 32, 3), 10


@dataclass(frozen=True)
class LatencySettings:
    """Predict latencies of random policies as shares of the base's, and measure them."""

    model: str = "resnet20"
    """Name in the zoo; of untrained weights, for 32×32 images."""
    runtime: str = "onnx"
    """Whose latency: onnx or litert."""
    integers: bool = False
    """Of files of integers of 8 bits."""
    policies: Count = 24
    """Random ones, each with 0.2 to 1 of every group's channels."""
    round_to: Count = 4
    """Channels are a multiple of this."""
    seconds: float = 20.0
    """Of measuring at most."""
    seed: int = 0
    """Of the model's policies; those that are predicted are of another one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m benchmarks.files.latency``."""
    settings = tyro.cli(LatencySettings, prog="latency", args=arguments)
    graph = trace(
        build(settings.model, CLASSES, IMAGE, settings.seed), jnp.zeros((1, *IMAGE), jnp.float32)
    )
    model = measure_latency(
        graph, 0.2, settings.round_to, settings.seed, settings.integers, settings.runtime
    )
    bits = INTEGER_BITS if settings.integers else FLOAT_BITS
    base, rng = Policy.uniform(graph, 1.0, bits, bits), np.random.default_rng([settings.seed, 4])
    policies = [base]
    for _ in range(settings.policies):
        keep = {
            name: round_count(rng.uniform(0.2, 1) * group.size, group.size, settings.round_to)
            / group.size
            for name, group in graph.groups.items()
        }
        policies.append(replace(base, keep=keep))
    found = measure_policies(graph, policies, settings.seconds, settings.runtime)
    measured = np.array([each.median_ms for each in found])
    predict = model.integers if settings.integers else model
    assert predict is not None
    predicted = np.array([predict(policy.counts(graph)) for policy in policies])
    off = (predicted / predicted[0]) / (measured / measured[0]) - 1
    here = machine()
    print(
        f"{here['cpu']}, {here['instruction_set']}\n{settings.model}, {settings.runtime},"
        f" {bits} bits: base {measured[0]:.3g} ms; policies take"
        f" {100 * (measured[1:] / measured[0]).min():.0f} to"
        f" {100 * (measured[1:] / measured[0]).max():.0f} % of it; predicted shares are off by"
        f" {100 * np.abs(off[1:]).mean():.1f} % in the mean, {100 * np.abs(off).max():.1f} % at"
        " most"
    )


if __name__ == "__main__":
    main()
