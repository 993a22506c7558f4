"""From a finished search to a measured network: re-score, slice, train, export, measure, report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from envs import NetworkTask
from envs.decisions import Decisions
from envs.problem import Problem
from envs.task import load_network
from experiments.records.machine import machine
from experiments.records.run_folder import RunFolder, command, versions
from experiments.report.differences import paired_differences
from experiments.run.files import Network, export_files, judge_files, measure_files
from experiments.run.training import Training, train_all
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.compression.rebuilt import write_choices
from pfrl.compression.sliced import Compressed
from pfrl.cost.model import Assignment
from pfrl.deploy.onnx.saturation import right_everywhere
from pfrl.deploy.operators.biases import with_rounded_biases
from pfrl.deploy.packed.pack import pack
from pfrl.graph import Graph

Entry = dict[str, Any]

PACKED = "model.packed"
CHOICES = Path("networks") / "choices.npz"
"""What ``pfrl export`` puts the trained network together from."""


def finish(
    settings: CompressSettings,
    folder: RunFolder,
    problem: Problem,
    decisions: Decisions,
    policy: Policy,
    uniform: Policy,
) -> Entry:
    """Everything after a policy is chosen: train in full, export, pack, judge and measure files.

    Args:
      settings: of the command.
      folder: of the run, in which the files appear.
      problem: of a network, which the policy solves.
      decisions: of the problem.
      policy: what is handed over.
      uniform: the control of the same cost.

    Returns:
      The report that ``report.json`` holds, but for what is told of a search.

    What it calls an accuracy is the mean quality by the data set's task, as in the search; the
    entry 'task' says which number that is for people.
    """
    opened = problem.open()
    graph, dataset = opened.graph, opened.evaluator.dataset
    achieved = decisions.cost(Assignment.of(policy, graph))
    notes: list[str] = []
    if not decisions.even:
        notes.append(
            "No policy that keeps the same share everywhere meets the limit. What is called uniform"
            " here goes down from all channels by what saves most time for its share of them."
        )
    networks = _networks(settings, folder, problem, policy, uniform, notes)
    with stage("exporting"):
        files = export_files(networks, graph, dataset, folder.path, notes.append)
    small = networks["compressed"].small
    assert small is not None
    packed = pack(small, folder.path / PACKED)
    with stage("judging the files on the test split"):
        judged = judge_files(networks["compressed"], files, dataset)
    with stage("measuring latency"):
        entries, speed = measure_files(networks, files, judged, settings.finish.seconds)
    quality = {name: found for (kind, name), found in judged.quality.items() if kind == "onnx"}
    others = {name: found for name, found in quality.items() if name != "compressed"}
    differences, interval = paired_differences(quality["compressed"], others)
    return {
        "model": settings.network.model,
        "data": settings.network.data,
        "task": dataset.task.wording._asdict(),
        "agent": settings.agent,
        "seed": settings.seed,
        "budget": {
            "metric": decisions.metric,
            "limit": decisions.limit,
            "achieved": achieved,
            "base": decisions.base,
        },
        "latency_runtime": settings.space.latency_runtime,
        "base": entries["onnx"]["base"],
        "compressed": entries["onnx"]["compressed"],
        "controls": {
            name: entries["onnx"][name]
            for name in ("base_trained_on", "uniform")
            if name in entries["onnx"]
        },
        "comparison": {
            **{
                f"compressed_minus_{name}": difference._asdict()
                for name, difference in differences.items()
            },
            "interval": interval,
            "latency_ratio": speed["onnx"],
            "agreement": judged.agreement["onnx"],
        },
        "litert": {
            **entries["litert"],
            "latency_ratio": speed["litert"],
            "agreement": judged.agreement["litert"],
        }
        if "litert" in entries
        else {},
        "groups": {
            name: [count, graph.groups[name].size] for name, count in policy.counts(graph).items()
        },
        "layers": _layer_rows(graph, policy),
        "packed": {"arrays": packed.payload, "file": packed.file},
        "integers": _integers(networks["compressed"], files["onnx", "compressed"]),
        "input": {
            "shape": list(graph.input_shape),
            "mean": list(dataset.mean),
            "std": list(dataset.std),
            "shown": dataset.shown,
            "classes": list(dataset.classes),
            "outputs": dataset.task.outputs(len(dataset.classes)),
            "dense": dataset.task.dense,
            "several": len(onnx.load(files["onnx", "compressed"]).graph.output) > 1,
        },
        "artefacts": {
            "policy": "policy.json",
            **{kind: path.name for (kind, name), path in files.items() if name == "compressed"},
            **{f"{kind}_base": path.name for (kind, name), path in files.items() if name == "base"},
            "packed": PACKED,
            "tensorboard": "tb",
        },
        "machine": machine(),
        "notes": notes,
        "versions": versions(),
        "command": command(),
    }


def _networks(
    settings: CompressSettings,
    folder: RunFolder,
    problem: Problem,
    policy: Policy,
    uniform: Policy,
    notes: list[str],
) -> dict[str, Network]:
    """The base as it is; trained alike, the compressed one and the controls."""
    evaluator, task = problem.open().evaluator, problem.task
    assert isinstance(task, NetworkTask)
    # The evaluator's is decomposed where ranks are decided, and takes more than this one.
    _, whole = load_network(task.model, task.data, task.weights)
    source = whole.source
    base = Network(
        "base", source.apply, source.variables, source.trainable, whole.macs, whole.params
    )

    small = evaluator.network(policy)
    write_choices(small, folder.path / CHOICES)
    to_train: dict[str, Compressed | None] = {"compressed": small}
    if settings.controls:
        to_train["base_trained_on"] = None
        if uniform.to_json() != policy.to_json():
            to_train["uniform"] = evaluator.network(uniform)
    place = folder.path / "networks"
    arrays = train_all(
        [
            Training(name, task, small, settings.finish, settings.seed, place)
            for name, small in to_train.items()
        ],
        notes.append,
    )
    shape = evaluator.graph.input_shape
    trained = {
        name: _network(name, dataclasses.replace(small, variables=arrays[name]), shape)
        if small is not None
        else dataclasses.replace(base, name=name, variables=arrays[name])
        for name, small in to_train.items()
    }
    if not settings.controls:
        notes.append(
            "No controls were trained: with `--controls` the base and the uniform policy get the"
            " same training, which tells what training and search each add."
        )
    elif "uniform" not in trained:
        notes.append("The uniform policy was chosen among the candidates and handed over.")
        trained["uniform"] = dataclasses.replace(trained["compressed"], name="uniform")
    return {"base": base, **trained}


def _network(name: str, trained: Compressed, input_shape: Sequence[int]) -> Network:
    """A trained network with the biases that its files have."""
    small = with_rounded_biases(trained, input_shape)
    variables = dict(small.variables)
    return Network(name, small.apply, variables, small.trainable, small.macs, small.params, small)


def _integers(network: Network, path: Path) -> Entry | None:
    """Which processors compute the file of integers right; None if it has none."""
    if network.small is None or not network.small.quantized:
        return None
    return {"right_everywhere": right_everywhere(onnx.load(path))}


def _layer_rows(graph: Graph, policy: Policy) -> list[Entry]:
    full, kept = graph.full_counts(), policy.counts(graph)
    return [
        {
            "layer": layer.name,
            "groups": list(layer.c_out.groups),
            "channels": layer.c_out.at(full),
            "kept": layer.c_out.at(kept),
            "macs_base": layer.macs,
            "macs": layer.macs_at(kept),
        }
        for layer in graph.layers
    ]
