"""``pfrl export``: the network of a finished run written again, in any format and number type."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.task import at_full_rank
from experiments.records.run_folder import CONFIG
from experiments.records.wording import percent
from experiments.run.finish import CHOICES
from experiments.settings.files import FLOAT, ExportSettings, Format
from experiments.watch.progress import stage, tell
from pfrl.compression.calibration import gather_from
from pfrl.compression.policy import Policy
from pfrl.compression.rebuilt import rebuild
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import Compressed, compress
from pfrl.cpu.backend import answering
from pfrl.data import Dataset, load
from pfrl.data.seen import seen
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.operators.biases import with_rounded_biases
from pfrl.deploy.packed.pack import pack
from pfrl.deploy.runtimes import litert
from pfrl.deploy.runtimes.base import Unavailable
from pfrl.deploy.runtimes.sessions import open_session
from pfrl.files import FileError, check_folders, load_arrays, read_json
from pfrl.graph import Graph, Source, trace
from pfrl.models.network import initial
from pfrl.tasks.agreement import Agreement, Likeness
from pfrl.tasks.outputs import as_one
from pfrl.training.optimizers import QUANTIZER

NAMES: dict[Format, str] = {
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "packed": "model.packed",
    "jax": "model.jax",
}
EDGE_BITS = 8
"""Bits of the first and the last layer at least, where ``--bits`` rounds a network."""
CHECKED = 8
"""Random images on which ONNX Runtime has to answer as JAX does."""
COMPARED = 1_000
"""Search images, at most, for which a network that was rounded now is compared with the run's."""


def run(settings: ExportSettings) -> list[Path]:
    """Write the files.

    Returns:
      Their paths.

    Raises:
      FileError: if the folder holds no finished run of this version.
      ExportError: if the network has no counterpart in a format.
      Unavailable: if a format needs LiteRT, which is not installed.
    """
    if "litert" in settings.format and not litert.installed():
        raise Unavailable(
            "LiteRT is not installed: `pip install 'pocketflow-rl[litert]'` brings it"
        )
    folder = settings.run_dir
    check_folders(folder)
    report, made_by = (_read(folder, name) for name in ("report.json", CONFIG))
    given, facts = made_by["settings"], report["input"]
    with stage("putting the network together"):
        graph = _graph(settings.model or given["model"], given.get("decompose"), facts)
        arrays, _ = load_arrays(folder / "networks" / "compressed.npz")
        trained = rebuild(folder / CHOICES, graph, arrays)
        trained = with_rounded_biases(trained, graph.input_shape)
    small = trained
    dataset = None
    if settings.bits == FLOAT:
        small = as_float(trained)
    elif settings.bits is not None:
        with stage("rounding it on training images"):
            dataset = seen(load(settings.data or given["data"]), facts["mean"], facts["std"])
            small = rounded(as_float(trained), dataset, settings.bits)
    out = settings.out or folder / "export"
    metadata = {
        **{name: ", ".join(map(str, facts[name])) for name in ("mean", "std", "classes")},
        "made_by": f"pocketflow-rl {version('pocketflow-rl')}",
    }
    noise = np.random.default_rng(0).normal(size=(CHECKED, *graph.input_shape)).astype(np.float32)
    write: dict[Format, Callable[[Path], Any]] = {
        "onnx": lambda path: export_onnx(small, graph.input_shape, path, metadata, noise),
        "litert": lambda path: export_litert(small, graph.input_shape, path, metadata),
        "packed": lambda path: pack(small, path),
        "jax": small.save,
    }
    paths = []
    with stage("writing"):
        for kind in dict.fromkeys(settings.format):
            paths.append(out / NAMES[kind])
            write[kind](paths[-1])
    if dataset is not None:
        for path in (each for each in paths if each.suffix in (".onnx", ".tflite")):
            tell(f"{path.name}: {_compared(trained, path, dataset)}")
    return paths


def as_float(small: Compressed) -> Compressed:
    """The same network without any rounding."""
    policy = small.policy
    free = replace(
        policy,
        weight_bits=dict.fromkeys(policy.weight_bits, FLOAT),
        act_bits=dict.fromkeys(policy.act_bits, FLOAT),
    )
    own = {n: value for n, value in small.variables.items() if not n.startswith(QUANTIZER)}
    return replace(small, policy=free, variables=own, ranges={})


def rounded(small: Compressed, dataset: Dataset, bits: int) -> Compressed:
    """A network rounded to so many bits after its training (post-training quantization).

    Kernels by the step of least squared error, activations by the ranges that training images
    have; the first and the last layer have ``EDGE_BITS`` at least.

    Args:
      small: a network in float.
      dataset: as the network sees it.
      bits: of weights and activations, 2 to 8.
    """
    source = Source(small.apply, small.variables, small.trainable)
    graph = trace(source, jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32))
    recipe = Recipe(weights="mse", calibration="mse")
    statistics = gather_from(graph, recipe, dataset, 0, quantized=True)
    policy = Policy.uniform(graph, 1.0, bits, bits).with_edges(graph, EDGE_BITS)
    small = compress(source, policy, graph=graph, statistics=statistics)
    return with_rounded_biases(small, graph.input_shape)


def _graph(model: str, decompose: str | None, facts: dict[str, Any]) -> Graph:
    """The network that was compressed, traced; its weights do not matter."""
    shape = tuple(facts["shape"])

    def no_data(_: Any) -> Any:
        return iter([np.zeros((1, *shape), np.float32)])

    source, _ = initial(model, facts["outputs"], shape, facts["dense"], 0, no_data)
    blank = {
        name: np.zeros(value.shape, value.dtype)
        if isinstance(value, jax.ShapeDtypeStruct)
        else value
        for name, value in source.variables.items()
    }
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    graph = trace(source._replace(variables=blank), example)
    return graph if decompose is None else at_full_rank(graph, decompose)


def _compared(trained: Compressed, path: Path, dataset: Dataset) -> str:
    """How far a file answers as the run's network does."""
    search = dataset.search.take(slice(COMPARED))
    session, ours = open_session(path), answering(lambda x: as_one(trained(x)))
    alike = []
    for images, targets in dataset.batches(search, min(250, len(search))):
        expected = np.asarray(ours(images))[: len(targets)]
        parts = jax.tree.leaves(jax.eval_shape(trained, images))
        scores = len(parts) == 1 and expected.ndim == 2 and expected.shape[1] > 1
        sizes = tuple(prod(each.shape[1:]) for each in parts)
        task = Agreement() if scores else Likeness(sizes=sizes)
        alike.append(task.agree(session.logits(np.asarray(images[: len(targets)])), expected))
    share = float(np.concatenate(alike).mean())
    words = "names the same class as" if scores else "agrees to a hundredth with"
    return f"{words} the run's network for {percent(share)} of {len(search):,} search images"


def _read(folder: Path, name: str) -> Any:
    if not (folder / name).is_file():
        raise FileError(
            f"{folder} has no {name}; expected the folder of a run of 'compress' or 'apply' that"
            " has ended"
        )
    return read_json(folder / name)
