"""Every network of the zoo at full width in every format: do the files compute the same numbers?

    python -m benchmarks.files.parity --data cifar10
    python -m benchmarks.files.parity --data cifar10 --networks resnet20 --weights resnet20.npz
    python -m benchmarks.files.parity --data "images:photos?size=224" --networks net.onnx

A row a network: how far the float files are off JAX; of how many images the simulation in JAX, the
integer reference and the integer files tell the same class; and how far apart the codes of the
reference and of LiteRT are. Without weights kernels are those of the beginning, scales and biases
random, and statistics those of the images.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from envs.task import load_network
from experiments.run.inputs import find_weights
from experiments.settings.blocks import NetworkBlock
from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import Compressed, compress
from pfrl.data import Dataset, load
from pfrl.deploy.litert.check import computed
from pfrl.deploy.litert.export import to_litert
from pfrl.deploy.litert.size import LiteRTSize
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.onnx.size import OnnxSize
from pfrl.deploy.operators.biases import with_rounded_biases
from pfrl.deploy.operators.quantized import build_quantized
from pfrl.deploy.reference.run import Reference
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.graph import Graph, trace
from pfrl.graph.source import is_floating
from pfrl.methods.repair.batch_norm import find_momentum, reestimate
from pfrl.models import catalogue
from pfrl.models.network import is_own

FEW = 16
"""Images whose codes are compared at every site."""


class Steps(NamedTuple):
    """How far the codes of a runtime are off the reference's.

    Attributes:
      shares: by tensor, of its codes that are at most one step off.
      same: of all codes, those that are the same.
      largest: steps between any two.
    """

    shares: Mapping[str, float]
    same: float
    largest: int


def steps_apart(content: bytes, reference: Reference, images: np.ndarray) -> Steps:
    """A LiteRT file of integers beside the reference, at all tensors that both have.

    Args:
      content: of the file.
      reference: of the graph that it was written of.
      images: ``[N, H, W, C]``.
    """
    theirs = {
        tensor["name"]: codes.astype(int) + 128
        for tensor, codes in computed(content, images)
        if codes.dtype == np.int8
    }
    off = {}
    for name, codes in reference.codes(images).items():
        found = theirs.get(f"{name}.int8", theirs.get(name))
        if found is not None and found.shape == codes.shape:
            off[name] = np.abs(found - codes)
    every = np.concatenate([each.ravel() for each in off.values()])
    shares = {name: float((each <= 1).mean()) for name, each in off.items()}
    return Steps(shares, float((every == 0).mean()), int(every.max()))


def drawn(name: str, images: np.ndarray, classes: int) -> Graph:
    """A network of the zoo as it begins, traced, with statistics of the images."""
    module = catalogue.build(name, classes, images.shape[1:], 0)
    graph = trace(module, jax.ShapeDtypeStruct((1, *images.shape[1:]), np.float32))
    source = graph.source
    rng = np.random.default_rng(0)
    variables = {
        name: value + rng.uniform(-0.3, 0.3, value.shape).astype(np.float32)
        if value.ndim == 1 and name in source.trainable
        else value
        for name, value in source.variables.items()
    }
    updated = jax.jit(lambda v, x: source.apply(v, x, True)[1])
    statistics = [n for n, v in variables.items() if n not in source.trainable and is_floating(v)]
    momentum = find_momentum(updated, variables, statistics, images)
    found = reestimate(updated, variables, momentum, [images])
    variables = {name: np.asarray(value) for name, value in {**variables, **found}.items()}
    return trace(source._replace(variables=variables), *graph.inputs)


def some_images(dataset: Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalised training images, and others: of the search split, and if that has too few, of the
    training images behind those."""
    first = dataset.train.take(np.arange(min(count, len(dataset.train))))
    others = dataset.search.take(np.arange(min(count, len(dataset.search)))).images
    more = dataset.train.take(np.arange(count, len(dataset.train))).images
    others = np.concatenate([np.asarray(others), np.asarray(more[: count - len(others)])])
    return dataset.normalize(np.asarray(first.images)), dataset.normalize(others)


class Row(NamedTuple):
    """What there is to say of a network; of outputs the largest differences, as shares of the
    largest output, and of images the shares whose class is the same."""

    network: str
    onnx_float: float
    litert_float: float
    simulated: float
    onnx: float
    litert: float
    step: float
    same: float
    largest: int
    size: str

    def cells(self) -> list[str]:
        shares = [f"{100 * each:.2f}" for each in (self.simulated, self.onnx, self.litert)]
        floats = f"{self.onnx_float:.1e}", f"{self.litert_float:.1e}"
        steps = f"{100 * self.step:.3f}", f"{100 * self.same:.2f}", str(self.largest)
        return [self.network, *floats, *shares, *steps, self.size]


HEADER = (
    "network",
    "ONNX, float",
    "LiteRT, float",
    "simulated, same class",
    "ONNX, same class",
    "LiteRT, same class",
    "within a step, worst site",
    "same codes",
    "largest, steps",
    "sizes predicted",
)


def row(name: str, data: str, weights: Path | None, count: int) -> Row:
    """All formats of a network, with floats and with integers of 8 bits.

    Args:
      name: of the zoo, or a user's own network.
      data: so many training images of it ranges are taken from, and on others outputs are compared.
      weights: of the network; None where it brings its own, or is as drawn at the beginning.
      count: of images.
    """
    if weights is not None or is_own(name):
        block = NetworkBlock(model=name, data=data, weights=weights)
        dataset, graph = load_network(name, data, str(find_weights(block)))
        training, images = some_images(dataset, count)
    else:
        dataset = load(data)
        training, images = some_images(dataset, count)
        graph = drawn(name, training[:64], len(dataset.classes))
    shape = graph.input_shape
    seen = gather_statistics(graph, Recipe(), [(training, None)], quantized=True)
    found: dict[int, Compressed] = {
        bits: compress(graph.source, Policy.uniform(graph, 1.0, bits, bits), graph=graph,
                       statistics=seen)
        for bits in (32, 8)
    }  # fmt: skip
    found[8] = with_rounded_biases(found[8], shape)
    onnx = {bits: to_onnx(small, shape) for bits, small in found.items()}
    litert = {bits: to_litert(small, shape) for bits, small in found.items()}
    expected = {bits: np.asarray(jax.jit(small)(images)) for bits, small in found.items()}
    off = [
        float(np.abs(session.logits(images) - expected[32]).max() / np.abs(expected[32]).max())
        for session in (Session(onnx[32].SerializeToString()), LiteRTSession(litert[32]))
    ]
    reference = Reference(*build_quantized(found[8], shape, "last"))
    same = Reference(*build_quantized(found[8], shape, "last"), litert=True)
    outputs = reference(images, FEW)
    every = [
        expected[8],
        Session(onnx[8].SerializeToString()).logits(images, FEW),
        LiteRTSession(litert[8]).logits(images, FEW),
    ]
    alike = [float((each.argmax(-1) == outputs.argmax(-1)).mean()) for each in every]
    steps = steps_apart(litert[8], same, images[:FEW])
    sizes = OnnxSize(graph), LiteRTSize(graph)
    right = []
    for bits, small in found.items():
        at = small.policy.counts(graph), small.policy.weight_bits, small.policy.act_bits
        written = onnx[bits].ByteSize(), len(litert[bits])
        right += [size(*at) == made for size, made in zip(sizes, written, strict=True)]
    return Row(
        name,
        onnx_float=off[0],
        litert_float=off[1],
        simulated=alike[0],
        onnx=alike[1],
        litert=alike[2],
        step=min(steps.shares.values()),
        same=steps.same,
        largest=steps.largest,
        size="all" if all(right) else str(right),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The zoo in every format, at full width.")
    parser.add_argument("--data", default="cifar10", help="whose training images are looked at")
    parser.add_argument("--networks", nargs="*", help="the whole zoo by default; ONNX files, too")
    parser.add_argument("--weights", type=Path, help="of the one network")
    parser.add_argument("--images", type=int, default=256)
    options = parser.parse_args()
    for cells in (HEADER, [":--", *["--:"] * (len(HEADER) - 1)]):
        print(f"| {' | '.join(cells)} |", flush=True)
    for name in options.networks or [*catalogue.MODELS, *catalogue.DENSE_MODELS]:
        weights = options.weights or catalogue.pretrained_path(name, options.data)
        try:
            cells = row(name, options.data, weights, options.images).cells()
        except ValueError as error:
            cells = [name, str(error)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
