"""From a finished search to a measured network: re-score, slice, train, export, measure, report."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from envs import NetworkTask
from envs.task import load_network
from experiments.records.machine import machine
from experiments.records.run_folder import RunFolder, command, versions
from experiments.run.choose import Chosen
from experiments.run.differences import paired_differences
from experiments.run.networks import Network, export
from experiments.run.search import Searched
from experiments.run.training import Training, train_all
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import Compressed
from pfrl.cost.model import Assignment
from pfrl.data import Dataset
from pfrl.deploy.packed.file import Sizes
from pfrl.deploy.packed.pack import pack
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.deploy.timing import Measurement, latency_ratio, measure_interleaved
from pfrl.evaluation.base import Evaluator
from pfrl.graph import Graph
from pfrl.training.fit import JUDGED_AT_ONCE

Entry = dict[str, Any]

PACKED = "model.packed"


def finish(
    settings: CompressSettings, folder: RunFolder, searched: Searched, handed_over: Chosen
) -> Entry:
    """Everything after the search; returns the report that ``report.json`` holds.

    What it calls an accuracy is the mean quality by the data set's task, as in the search; the
    entry 'task' says which number that is for people.
    """
    graph, evaluator = searched.opened.graph, searched.opened.evaluator
    dataset = evaluator.dataset
    decisions, uniform, chosen, rescored = handed_over
    achieved = decisions.cost(Assignment.of(chosen.policy, graph))
    notes: list[str] = []
    networks = _networks(settings, folder, searched, chosen.policy, uniform.policy, notes)
    with stage("exporting"):
        paths = {
            name: export(network, graph, dataset, folder.path / _file_name(name))
            for name, network in networks.items()
        }
    packed = _pack(evaluator, chosen.policy, networks["compressed"], folder.path / PACKED)
    with stage("judging the files on the test split"):
        quality, agreement = _judge(networks["compressed"], paths, dataset)
    names = list(paths)
    with stage("measuring latency"):
        measured = measure_interleaved(
            [paths[n] for n in names], seconds=settings.finish.seconds * len(names)
        )
    latencies = dict(zip(names, measured, strict=True))
    entries = {
        name: _entry(network, paths[name], quality[name], latencies[name])
        for name, network in networks.items()
    }
    facts = {
        **searched.facts,
        "rescored": rescored["candidates"],
        "held_out_images": rescored["images"],
        "cheapest_in": rescored["metric"],
        "chosen": chosen.episode,
        "uniform": {
            "accuracy": uniform.evaluation.accuracy,
            "costs": uniform.evaluation.costs,
        },
    }
    others = {name: found for name, found in quality.items() if name != "compressed"}
    differences, interval = paired_differences(quality["compressed"], others)
    speed = latency_ratio(latencies["compressed"], latencies["base"])
    return {
        "model": settings.network.model,
        "data": settings.network.data,
        "task": dataset.task.wording._asdict(),
        "agent": settings.agent,
        "seed": settings.seed,
        "episodes": len(searched.result.history),
        "budget": {
            "metric": decisions.metric,
            "limit": decisions.limit,
            "achieved": achieved,
            "base": decisions.base,
        },
        "base": entries["base"],
        "compressed": entries["compressed"],
        "controls": {
            name: entries[name] for name in ("base_trained_on", "uniform") if name in entries
        },
        "comparison": {
            **{
                f"compressed_minus_{name}": difference._asdict()
                for name, difference in differences.items()
            },
            "interval": interval,
            "latency_ratio": {"ratio": speed.value, "low": speed.low, "high": speed.high},
            "agreement": agreement,
        },
        "search": facts,
        "groups": {
            name: [count, graph.groups[name].size]
            for name, count in chosen.policy.counts(graph).items()
        },
        "layers": _layer_rows(graph, chosen.policy),
        "packed": {"arrays": packed.payload, "file": packed.file},
        "input": {
            "shape": list(graph.input_shape),
            "mean": list(dataset.mean),
            "std": list(dataset.std),
            "classes": list(dataset.classes),
        },
        "artefacts": {
            "policy": "policy.json",
            "onnx": paths["compressed"].name,
            "onnx_base": paths["base"].name,
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
    searched: Searched,
    policy: Policy,
    uniform: Policy,
    notes: list[str],
) -> dict[str, Network]:
    """The base as it is; trained alike, the compressed one and the controls."""
    evaluator, task = searched.opened.evaluator, searched.problem.task
    assert isinstance(task, NetworkTask)
    # The evaluator's is decomposed where ranks are decided, and takes more than this one.
    _, whole = load_network(task.model, task.data, task.weights)
    source = whole.source
    base = Network(
        "base", source.apply, source.variables, source.trainable, whole.macs, whole.params
    )

    to_train: dict[str, Compressed | None] = {"compressed": evaluator.network(policy)}
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
    trained = {
        name: Network(name, small.apply, arrays[name], small.trainable, small.macs, small.params)
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


def _file_name(network: str) -> str:
    return {"compressed": "model.onnx", "base": "model_base.onnx"}.get(
        network, f"networks/{network}.onnx"
    )


def _pack(evaluator: Evaluator, policy: Policy, network: Network, path: Path) -> Sizes:
    """Write the trained arrays as small as the policy says: what the budget ``bytes`` counts."""
    small = evaluator.network(policy)
    return pack(dataclasses.replace(small, variables=network.variables), path)


def _judge(
    compressed: Network, paths: Mapping[str, Path], dataset: Dataset
) -> tuple[dict[str, np.ndarray], float]:
    """The quality of every ONNX file's answers ``[N]``, and how often JAX answers alike.

    The only place where the test split is read.
    """
    task, test = dataset.task, dataset.open_test()
    sessions = {name: Session(path) for name, path in paths.items()}
    ours = jax.jit(compressed.outputs)
    quality: dict[str, list[np.ndarray]] = {name: [] for name in paths}
    alike = []
    for images, targets in dataset.batches(test, JUDGED_AT_ONCE):
        count = len(targets)
        theirs = {name: session.logits(images[:count]) for name, session in sessions.items()}
        for name, outputs in theirs.items():
            quality[name].append(task.quality(outputs, targets))
        alike.append(task.agree(np.asarray(ours(images))[:count], theirs["compressed"]))
    joined = {name: np.concatenate(parts) for name, parts in quality.items()}
    return joined, float(np.concatenate(alike).mean())


def _entry(network: Network, path: Path, quality: np.ndarray, latency: Measurement) -> Entry:
    return {
        "test_accuracy": float(quality.mean()),
        "macs": network.macs,
        "params": network.params,
        "nbytes": path.stat().st_size,
        "latency_ms": {
            "median": latency.median_ms,
            "low": latency.low_ms,
            "high": latency.high_ms,
            "threads": latency.threads,
            "batch": latency.batch,
            "runtime": f"{latency.runtime} {latency.runtime_version}",
        },
    }


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
