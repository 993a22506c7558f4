"""The networks of a report and their files: written, judged on the test split, and measured."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pfrl.compression.sliced import Compressed
from pfrl.cpu import cores
from pfrl.cpu.backend import answering
from pfrl.data import Dataset, Split
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.memory import peak_memories
from pfrl.deploy.metadata import metadata
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.runtimes import litert
from pfrl.deploy.runtimes.sessions import open_session
from pfrl.deploy.timing import STEADY, Measurement, latency_ratio, measure_interleaved, ratios_to
from pfrl.evaluation.remembered import base_files
from pfrl.graph import Graph, Variables
from pfrl.tasks.outputs import as_one
from pfrl.training.fit import JUDGED_AT_ONCE
from pfrl.training.step import Apply

Entry = dict[str, Any]
Files = Mapping[tuple[str, str], Path]
"""By format (onnx or litert) and network."""

CHECKED = 32
"""Search images on which a file is compared with JAX before it is kept."""
SHIPPED = {"compressed": "model", "base": "model_base"}
"""Networks that are handed over, in every format, by the stems of their files."""


@dataclass(frozen=True)
class Network:
    """A function with its variables.

    Attributes:
      name: what the report and the files call it.
      apply: see ``pfrl.training.step.Apply``.
      variables, trainable: as of a ``Source``.
      macs, params: counted in the graph and in the arrays.
      small: what it is, with these variables, if it was compressed.
    """

    name: str
    apply: Apply
    variables: Variables
    trainable: frozenset[str]
    macs: int
    params: int
    small: Compressed | None = None

    def outputs(self, x: Any) -> Any:
        """What it answers in evaluation mode, parameters as constants; logits where classes are."""
        return self.apply(self.variables, x, False)[0]


class Judged(NamedTuple):
    """What the test split says.

    Attributes:
      quality: of every file's answers ``[N]``.
      agreement: by format, the share of images that JAX answers as the compressed file does.
    """

    quality: dict[tuple[str, str], np.ndarray]
    agreement: dict[str, float]


def export_files(
    networks: Mapping[str, Network],
    graph: Graph,
    dataset: Dataset,
    folder: Path,
    note: Callable[[str], None],
) -> dict[tuple[str, str], Path]:
    """All networks as ONNX files; those that are handed over as LiteRT files too, if that can be.

    Args:
      networks: by name.
      graph, dataset: of the run.
      folder: of the run.
      note: is told why there are no LiteRT files.

    Raises:
      ExportError: if a network has an operation that has no counterpart in ONNX.
    """
    files = {
        ("onnx", name): export(
            network, graph, dataset, folder / f"{SHIPPED.get(name, f'networks/{name}')}.onnx"
        )
        for name, network in networks.items()
    }
    if not litert.installed():
        note("There are no LiteRT files: `pip install 'pocketflow-rl[litert]'` brings LiteRT.")
        return files
    try:
        flat = {
            ("litert", name): export(networks[name], graph, dataset, folder / f"{stem}.tflite")
            for name, stem in SHIPPED.items()
        }
    except ExportError as error:
        note(f"There are no LiteRT files: {error}.")
        return files
    return {**files, **flat}


def export(network: Network, graph: Graph, dataset: Dataset, path: Path) -> Path:
    """The network as a file with what a user needs to feed it.

    It computes with integers where the network is rounded; all else is float32. It is checked on
    search images before it is there.

    Args:
      network: what is exported.
      graph: for the shape of one image.
      dataset: whose scaling and classes are written into the file.
      path: of the file, ``.onnx`` or ``.tflite``; one that is there already is kept.

    Returns:
      The path.

    Raises:
      ExportError: if the network has an operation that has no counterpart in the format, or
        its runtime computes something else than JAX.
      Unavailable: if the format needs LiteRT, which is not installed.
    """
    if not path.exists():
        written = metadata(dataset)
        function = network.outputs if network.small is None else network.small
        images = np.asarray(next(iter(dataset.batches(dataset.search, CHECKED)))[0])
        write = export_litert if path.suffix == ".tflite" else export_onnx
        write(function, graph.input_shape, path, written, images)
    return path


def judge_files(compressed: Network, files: Files, dataset: Dataset) -> Judged:
    """Every file on the test split, each in its runtime, on as many cores as there are.

    The only place where the test split is read.

    Args:
      compressed: the network whose files are compared with its own answers in JAX.
      files: by format and network.
      dataset: whose test split is opened, and whose task tells qualities.

    Returns:
      by file the quality of every image ``[N]``, and by format the share of images that the file
      of the compressed network answers as JAX does.
    """
    task, test = dataset.task, dataset.open_test()
    ours = answering(lambda x: as_one(compressed.outputs(x)), threads=1)
    base = {kind: path for (kind, name), path in files.items() if name == "base"}

    def of_base() -> dict[str, np.ndarray]:
        asked = {kind: open_session(path).logits for kind, path in base.items()}
        found: dict[str, list[np.ndarray]] = {kind: [] for kind in base}
        for answers, targets in _answers(asked, dataset, test):
            for kind, outputs in answers.items():
                found[kind].append(task.quality(outputs, targets))
        return {kind: np.concatenate(parts) for kind, parts in found.items()}

    sessions = {key: open_session(path).logits for key, path in files.items() if key[1] != "base"}
    quality: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in sessions}
    alike: dict[str, list[np.ndarray]] = {kind: [] for kind, _ in sessions}
    jax = ("jax", compressed.name)
    asked = {jax: lambda x: np.asarray(ours(x)), **sessions}
    for answers, targets in _answers(asked, dataset, test):
        expected = answers.pop(jax)
        for (kind, name), outputs in answers.items():
            quality[kind, name].append(task.quality(outputs, targets))
            if name == compressed.name:
                alike[kind].append(task.agree(expected, outputs))
    known = base_files(dataset, test, base, of_base)
    return Judged(
        {
            **{key: np.concatenate(parts) for key, parts in quality.items()},
            **{(kind, "base"): found for kind, found in known.items()},
        },
        {kind: float(np.concatenate(parts).mean()) for kind, parts in alike.items()},
    )


def _answers(
    asked: Mapping[Any, Callable[[np.ndarray], np.ndarray]], dataset: Dataset, test: Split
) -> Iterator[tuple[dict[Any, np.ndarray], Any]]:
    """Batch by batch what each answers, on as many cores as there are, and the targets."""
    with ThreadPoolExecutor(len(cores())) as pool:
        for images, targets in dataset.batches(test, JUDGED_AT_ONCE):
            batch, count = np.asarray(images), len(targets)
            asking = {name: pool.submit(ask, batch) for name, ask in asked.items()}
            yield {name: each.result()[:count] for name, each in asking.items()}, targets


def measure_files(
    networks: Mapping[str, Network], files: Files, judged: Judged, seconds: float
) -> tuple[dict[str, dict[str, Entry]], dict[str, Entry]]:
    """What the report says of every file, and of compressed against base, by format.

    All files are measured in turns, so those of two formats can be compared as well.

    Args:
      networks: by name.
      files: of them.
      judged: the same files.
      seconds: of measuring at most, for each file: all ratios of a format being steady ends it.
    """
    paths = list(files.values())
    kinds = [kind for kind, _ in files]
    measured = measure_interleaved(
        paths,
        seconds=seconds * len(files),
        precision=STEADY,
        steady=ratios_to([kinds.index(kind) for kind in kinds]),
    )
    found = dict(zip(files, measured, strict=True))
    entries: dict[str, dict[str, Entry]] = {}
    for (kind, name), memory in zip(files, peak_memories(paths), strict=True):
        entries.setdefault(kind, {})[name] = {
            "test_accuracy": float(judged.quality[kind, name].mean()),
            "macs": networks[name].macs,
            "params": networks[name].params,
            "nbytes": files[kind, name].stat().st_size,
            "memory_bytes": memory,
            "latency_ms": _latency(found[kind, name]),
        }
    ratios = {
        kind: latency_ratio(found[kind, "compressed"], found[kind, "base"]) for kind in entries
    }
    return entries, {
        kind: {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}
        for kind, ratio in ratios.items()
    }


def _latency(measured: Measurement) -> Entry:
    return {
        "median": measured.median_ms,
        "low": measured.low_ms,
        "high": measured.high_ms,
        "threads": measured.threads,
        "batch": measured.batch,
        "runtime": f"{measured.runtime} {measured.runtime_version}",
    }
