"""ONNX files of anybody's: imported, half of every channel group removed, exported, compared.

    python -m benchmarks.files.imports *.onnx --out docs/results/imports.md

A table of what was found in each file and of how far the outputs of the pruned network in JAX and
those of its own file in ONNX Runtime differ; a file that fails has the sentence that says why.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import tyro

import pfrl
from experiments.records.machine import machine
from experiments.records.wording import cost, number, percent, table
from pfrl.deploy.onnx.export import to_onnx
from pfrl.files import write_text

IMAGES = 2
"""That networks are compared on: two, for a batch of one could be all that they are good for."""
HEADER = (
    "file",
    "MACs",
    "channel groups",
    "MACs with half of every group",
    "parameters",
    "largest difference",
    "seconds",
)


@dataclass(frozen=True)
class ImportsSettings:
    """Import files, halve every channel group, export and compare."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Networks for images, exported by PyTorch or Keras."""
    seed: int = 0
    """Of the images of noise."""
    out: Path | None = None
    """Markdown file to write besides."""


def run(settings: ImportsSettings) -> str:
    rows = []
    for path in settings.files:
        rows.append(row(path, settings.seed))
        print(*rows[-1], sep="  ", flush=True)
    text = table(HEADER, rows)
    if settings.out is not None:
        kind = machine()["cpu"]
        write_text(settings.out, f"{text}\n\n{len(rows)} files; seconds on {kind}.\n")
    return text


def row(path: Path, seed: int) -> list[str]:
    """A line of the table; of a file that is refused, why."""
    start = time.perf_counter()
    try:
        source = pfrl.from_onnx(path, channels_last=True)
        images = noise(path, seed)
        graph = pfrl.trace(source, images[:1])
        policy = pfrl.Policy.uniform(graph, keep=0.5, round_to=4)
        small = pfrl.compress(source, policy, graph=graph)
        ours = jax.tree.leaves(jax.jit(small)(images))
        session = onnxruntime.InferenceSession(
            to_onnx(small, graph.input_shape).SerializeToString(),
            providers=["CPUExecutionProvider"],
        )
        theirs = map(np.asarray, session.run(None, {session.get_inputs()[0].name: images}))
    except ValueError as error:
        return [path.stem, "", "", str(error), "", "", ""]
    return [
        path.stem,
        cost("macs", graph.macs),
        str(len(graph.groups)),
        percent(small.macs / graph.macs, 1),
        percent(small.params / graph.params, 1),
        f"{max(map(difference, ours, theirs)):.0e}",
        number(time.perf_counter() - start),
    ]


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest of an output, as a share of the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def noise(path: Path, seed: int) -> np.ndarray:
    """Images ``[N, H, W, C]`` of the size that a file wants."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    _, *sizes = session.get_inputs()[0].shape
    shape = (*sizes[1:], sizes[0]) if sizes[0] in (1, 3) else tuple(sizes)
    return np.random.default_rng(seed).normal(size=(IMAGES, *shape)).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    run(tyro.cli(ImportsSettings, prog="python -m benchmarks.files.imports", args=arguments))


if __name__ == "__main__":
    main()
