"""What is the same at every start of a search of one network, from the user's cache folder."""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pfrl.compression.kept import facts_of_network, named
from pfrl.compression.recipe import Recipe
from pfrl.cpu.backend import compiled
from pfrl.data import Dataset
from pfrl.deploy.runtimes.base import Runtime
from pfrl.evaluation.base import Choice
from pfrl.graph import Graph
from pfrl.tasks.outputs import as_one
from pfrl.training.fit import mean_quality
from pfrl.user_cache import digest, kept_json

PACKAGES = ("onnxruntime", "openvino", "ai-edge-litert")
"""Packages whose versions decide about which runtime is fastest."""


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
    whole = {**facts_of_network(graph), **facts, "task": [type(task).__name__, repr(task)]}
    return kept_json(kind, digest(whole, named([graph.source.variables, arrays])), make)


def _ours(thing: Any) -> bool:
    """Whether the digest of our code tells what it does; nobody knows what a user's depends on."""
    return type(thing).__module__.startswith("pfrl.")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
