"""``pfrl compress``: a trained network and a wish in, a smaller network that was measured out."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from agents import AGENTS
from envs.decisions import Decisions
from envs.rewards import REWARDS
from envs.task import load_network
from experiments.records.run_folder import RunFolder
from experiments.report.run_report import write_report
from experiments.run.finish import finish
from experiments.run.latency import measure_latency
from experiments.run.search import VALIDATION_FILE, make_problem, search
from experiments.settings.blocks import NetworkBlock
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import stage
from pfrl.cost import CostModel
from pfrl.data import reader
from pfrl.deploy.onnx.export import export_onnx
from pfrl.files import write_json
from pfrl.graph import Graph
from pfrl.models.catalogue import DENSE_MODELS, MODELS, ModelError, pretrained_path

LATENCY_FILE = "latency.json"


def run(settings: CompressSettings) -> list[Path]:
    """The main job. Returns the files to look at: the report and the exported network.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that
        was given is wrong; before the first episode, as far as it can be known.
    """
    settings = settings.resolved()
    weights = check(settings)
    folder = RunFolder("compress", settings, weights, "history.jsonl")
    with stage("loading and tracing"):
        dataset, graph = load_network(settings.network.model, settings.network.data, str(weights))
    print(f"{settings.network.data}: {dataset.summary}", file=sys.stderr)
    if not folder.begun:
        check_export(graph)
    latency = None
    if not folder.begun and settings.needs_latency:
        space = settings.space
        latency = measure_latency(graph, space.keep_min, space.round_to, settings.seed)
    if not folder.begun:
        # A budget that cannot be met is refused before anything is written.
        Decisions(
            make_problem(settings, weights, None), graph, CostModel(graph, latency, settings.recipe)
        )
    if latency is not None:
        # Before config.json, which makes it a run: a kill in between leaves nothing to resume.
        write_json(settings.out / LATENCY_FILE, latency.to_json())
    folder.begin()
    table = folder.path / LATENCY_FILE if settings.needs_latency else None
    judge = (folder.read(VALIDATION_FILE) or {}).get("backend")
    searched = search(settings, folder, make_problem(settings, weights, table, judge))
    write_json(folder.path / "report.json", finish(settings, folder, searched))
    return [write_report(folder.path), folder.path / "model.onnx"]


def check_export(graph: Graph) -> None:
    """Export the base network once and throw it away.

    A network that cannot be handed over is refused before the search, not after it.

    Raises:
      ExportError: if it has an operation that the exporter does not know.
    """
    source = graph.source
    with stage("checking the export"), TemporaryDirectory() as folder:
        export_onnx(
            lambda x: source.apply(source.variables, x, False)[0],
            graph.input_shape,
            Path(folder) / "base.onnx",
        )


def check(settings: CompressSettings) -> Path:
    """The weights to start from; everything that has a name is known."""
    _ = AGENTS[settings.agent], REWARDS[settings.reward or ""]
    return find_weights(settings.network)


def find_weights(network: NetworkBlock) -> Path:
    """The given weights, or those that come with the package.

    Raises:
      ModelError, DataError: if there are none, or no such model or data set.
    """
    model, data = network.model, network.data
    known = MODELS | DENSE_MODELS
    if model not in known:
        raise ModelError(f"unknown model '{model}'; expected one of {', '.join(known)}")
    weights = network.weights or pretrained_path(model, data)
    if weights is None:
        reader(data)  # an unknown name says which data sets there are
        raise ModelError(
            f"no weights of {model} for {data} come with the package; train them"
            f" (pfrl pretrain --model {model} --data {data}) and give --weights"
        )
    return weights
