"""What is the same at every start of a search of one network, from the user's cache folder."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pfrl.compression.kept import facts_of_network
from pfrl.compression.recipe import Recipe
from pfrl.cpu.backend import compiled
from pfrl.data import Dataset, Split
from pfrl.data.streams import Undecoded
from pfrl.deploy.runtimes.base import Runtime
from pfrl.evaluation.base import Choice
from pfrl.graph import Graph
from pfrl.tasks.outputs import as_one
from pfrl.training.fit import mean_quality
from pfrl.training.identity import named
from pfrl.user_cache import digest, digest_of_code, instructions, kept_arrays, kept_json

PACKAGES = ("onnxruntime", "openvino", "ai-edge-litert")
"""Packages whose versions decide about which runtime is fastest, and what it answers."""


def base_quality(graph: Graph, dataset: Dataset) -> float:
    """Mean quality of the base network on all search images.

    Args:
      graph: of the base network.
      dataset: whose search split and task.
    """
    source = graph.source

    def judge() -> float:
        answer = compiled(lambda v, x: as_one(source.apply(v, x, False)[0]))
        return mean_quality(lambda x: answer(source.variables, x), dataset, dataset.search)

    search = dataset.search
    facts = {"mean": dataset.mean, "std": dataset.std}
    return _kept("quality", graph, dataset, facts, [search.images, search.labels], judge)


def base_files(
    dataset: Dataset,
    test: Split,
    files: Mapping[str, Path],
    judge: Callable[[], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Quality ``[N]`` of the base network's files on every test image, by name.

    What an earlier run of the same network found is taken where the images are in memory: to read
    others takes as long as to judge them.

    Args:
      dataset: whose scaling and task.
      test: its test split.
      files: by name.
      judge: asks the files.
    """
    if isinstance(test.images, Undecoded) or not _ours(dataset.task):
        return dict(judge())
    facts = {
        "code": digest_of_code(),
        "cpu": instructions(),
        "versions": {name: _version(name) for name in ("numpy", *PACKAGES)},
        "scaling": [dataset.mean, dataset.std],
        "task": _named(dataset.task),
    }
    content = {name: np.fromfile(path, np.uint8) for name, path in files.items()}
    key = digest(facts, named([content, test.images, test.labels]))
    return kept_arrays("answers", key, lambda: dict(judge()))


FEW = 100
"""Search images on which scalings are tried."""
USUAL = (((0.0,), (1.0,)), ((0.5,), (0.5,)), ((0.0,), (1 / 255,)))
"""Means and deviations for pixels from 0 to 1, from -1 to 1 and from 0 to 255 ..."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""... and, of colours, those of most networks of PyTorch."""


class Scaling(NamedTuple):
    """How pixels in [0, 1] are scaled, and the quality of a network that sees them so."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    quality: float


def scalings(graph: Graph, dataset: Dataset) -> list[Scaling]:
    """The base network under its data set's scaling, the first one, and under usual ones.

    Args:
      graph: of the base network.
      dataset: of whose search images a few are judged.
    """
    source, colours = graph.source, dataset.image_shape[-1]
    count = min(FEW, len(dataset.search))
    few = dataset.search.take(np.linspace(0, len(dataset.search) - 1, count).round().astype(int))
    usual = [*USUAL, IMAGENET] if colours == 3 else USUAL
    tried = [(dataset.mean, dataset.std), *usual]

    def judge() -> list[float]:
        answer = compiled(lambda v, x: as_one(source.apply(v, x, False)[0]))

        def quality(mean: tuple[float, ...], std: tuple[float, ...]) -> float:
            seen = replace(dataset, mean=mean, std=std)
            return mean_quality(lambda x: answer(source.variables, x), seen, few)

        return [quality(*each) for each in every]

    every = [tuple(x * colours if len(x) == 1 else x for x in each) for each in tried]
    found = _kept("scalings", graph, dataset, {"tried": every}, [few.images, few.labels], judge)
    return [Scaling(mean, std, quality) for (mean, std), quality in zip(tried, found, strict=True)]


def choice(
    graph: Graph,
    dataset: Dataset,
    recipe: Recipe,
    images: Any,
    runtimes: Mapping[str, Runtime],
    choose: Callable[[], Choice],
) -> Choice:
    """Which runtime judges, as an earlier start of the same network measured on this machine.

    Args:
      graph: of the base network.
      dataset: whose task.
      recipe: by which the network is made that is judged.
      images: on which runtimes are compared.
      runtimes: that are compared, by name.
      choose: measures.
    """
    if not all(map(_ours, runtimes.values())):
        return choose()
    versions = {name: _version(name) for name in PACKAGES}
    found = _kept(
        "runtime",
        graph,
        dataset,
        {"recipe": recipe.to_json(), "runtimes": [*runtimes], "runtimes' versions": versions},
        images,
        lambda: choose()._asdict(),
    )
    return Choice(**found)


def _kept(
    kind: str,
    graph: Graph,
    dataset: Dataset,
    facts: Mapping[str, Any],
    arrays: Any,
    make: Callable[[], Any],
) -> Any:
    task = dataset.task
    if not _ours(task):
        return make()
    whole = {**facts_of_network(graph), **facts, "task": _named(task)}
    return kept_json(kind, digest(whole, named([graph.source.variables, arrays])), make)


def _named(task: Any) -> list[str]:
    return [type(task).__name__, repr(task)]


def _ours(thing: Any) -> bool:
    """Whether the digest of our code tells what it does; nobody knows what a user's depends on."""
    return type(thing).__module__.startswith("pfrl.")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
