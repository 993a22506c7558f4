"""From a finished search to a measured network: re-score, slice, train, export, measure, report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from agents import Episode
from envs.decisions import Decisions
from envs.rewards import Reference, reward_of
from experiments.latency import measure_policies
from experiments.machine import machine
from experiments.networks import Network, export, train_fully
from experiments.progress import stage
from experiments.run_folder import RunFolder, command, versions
from experiments.search import Searched
from experiments.settings import CompressSettings
from experiments.statistics import paired_difference
from pfrl.compress import Compressed, compress
from pfrl.cost.metrics import Assignment
from pfrl.data import Dataset
from pfrl.deploy.measure import Measurement, measure_interleaved, ratio
from pfrl.deploy.runtime import Session
from pfrl.evaluate import Evaluation, Evaluator
from pfrl.files import write_json
from pfrl.graph import Graph
from pfrl.policy import Policy

Entry = dict[str, Any]


def choose_policy(
    settings: CompressSettings, folder: RunFolder, searched: Searched, reference: Reference
) -> tuple[Episode, list[Entry]]:
    """Re-score the best few policies on the search images that no reward has used.

    The best of many owes some of its score to luck; the one that is also good
    on fresh images wins. Where latency matters, it is now measured on the
    exported candidates, and one that keeps to a latency budget is preferred.
    Returns the winner and the table of all candidates.
    """
    evaluator = searched.runtime.evaluate
    assert isinstance(evaluator, Evaluator)
    sound = [e for e in searched.result.history if not e.evaluation.diverged]
    ranked = sorted(sound or searched.result.history, key=lambda e: (-e.reward, e.index))
    candidates: list[Episode] = []
    for episode in ranked:
        if len(candidates) < settings.finish.candidates and all(
            episode.policy.to_json() != other.policy.to_json() for other in candidates
        ):
            candidates.append(episode)
    table = folder.read("rescored.json")
    if table is None:
        table = []
        speeds = _measure_candidates(settings, evaluator, candidates)
        for episode, speed in zip(candidates, speeds, strict=True):
            fresh, finite = evaluator.score(episode.policy, "fresh")
            costs = dict(episode.evaluation.costs)
            if speed is not None:
                costs["latency"] = speed * reference.costs["latency"]
            judged = Evaluation(fresh, costs, 0.0, not finite)
            table.append(
                {
                    "episode": episode.index,
                    "search_accuracy": episode.evaluation.accuracy,
                    "fresh_accuracy": fresh,
                    "fresh_reward": reward_of(settings.reward or "", judged, reference),
                    "latency_ratio": speed,
                }
            )
        write_json(folder.path / "rescored.json", table)
    budget = searched.problem.budget
    share = None
    if budget is not None and budget.metric == "latency":
        share = budget.limit(reference.costs) / reference.costs["latency"]

    def merit(place: int) -> tuple[bool, float]:
        row = table[place]
        return share is None or row["latency_ratio"] <= share, row["fresh_reward"]

    best = max(range(len(table)), key=merit)
    return candidates[best], table


def _measure_candidates(
    settings: CompressSettings, evaluator: Evaluator, candidates: Sequence[Episode]
) -> list[float | None]:
    """Measured latency of every candidate over the base's; None where latency does not matter."""
    if not settings.needs_latency:
        return [None] * len(candidates)
    graph = evaluator.graph
    policies = [Policy.uniform(graph), *(episode.policy for episode in candidates)]
    with stage("measuring candidates"):
        base, *others = measure_policies(graph, policies, settings.finish.seconds / 2)
    return [ratio(other, base).value for other in others]


def finish(settings: CompressSettings, folder: RunFolder, searched: Searched) -> Entry:
    """Everything after the search; returns the report that ``report.json`` holds."""
    runtime = searched.runtime
    graph, costs = runtime.graph, runtime.costs
    evaluator = runtime.evaluate
    assert isinstance(evaluator, Evaluator)
    dataset = evaluator.dataset
    decisions = Decisions(searched.problem, graph, costs)
    reference = Reference(
        runtime.base_accuracy,
        costs.base,
        searched.problem.latency_target(costs.base),
        searched.problem.latency_exponent,
    )
    chosen, rescored = choose_policy(settings, folder, searched, reference)
    write_json(folder.path / "policy.json", chosen.policy.to_json())
    achieved = decisions.cost(Assignment.of(chosen.policy, graph))
    limit = decisions.limit
    uniform = decisions.uniform(achieved if limit is None else limit).policy(graph)
    notes: list[str] = []
    networks = _networks(settings, folder, evaluator, chosen.policy, uniform, notes)
    paths = {
        name: export(network, graph, dataset, folder.path / _file_name(name))
        for name, network in networks.items()
    }
    correct, agreement = _judge(networks["compressed"], paths, dataset)
    names = list(paths)
    measured = measure_interleaved([paths[n] for n in names], seconds=settings.finish.seconds)
    latencies = dict(zip(names, measured, strict=True))
    entries = {
        name: _entry(network, paths[name], correct[name], latencies[name])
        for name, network in networks.items()
    }
    facts = {**searched.facts, "rescored": rescored}
    if settings.finish.controls:
        facts["uniform"] = _uniform_search_score(folder, evaluator, uniform)
    others = [name for name in names if name != "compressed"]
    speed = ratio(latencies["compressed"], latencies["base"])
    return {
        "model": settings.model,
        "data": settings.data,
        "agent": settings.agent,
        "seed": settings.seed,
        "episodes": settings.episodes,
        "budget": {
            "metric": decisions.metric,
            "limit": limit,
            "achieved": achieved,
            "base": decisions.base,
        },
        "base": entries["base"],
        "compressed": entries["compressed"],
        "controls": {name: entries.get(name) for name in ("base_trained_on", "uniform")},
        "comparison": {
            **{
                f"compressed_minus_{name}": paired_difference(
                    correct["compressed"], correct[name]
                )._asdict()
                for name in others
            },
            "latency_ratio": {"ratio": speed.value, "low": speed.low, "high": speed.high},
            "agreement": agreement,
        },
        "search": facts,
        "layers": _layer_rows(graph, chosen.policy),
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
    evaluator: Evaluator,
    policy: Policy,
    uniform: Policy,
    notes: list[str],
) -> dict[str, Network]:
    """The base as it is; trained alike, the compressed one and the controls."""
    graph, source = evaluator.graph, evaluator.graph.source
    base = Network(
        "base", source.apply, source.variables, source.trainable, graph.macs, graph.params
    )

    def sliced(name: str, policy: Policy) -> Network:
        small: Compressed = compress(source, policy, graph=graph, ranges=evaluator.ranges or None)
        variables = evaluator.reestimated(policy, small)
        return Network(name, small.apply, variables, source.trainable, small.macs, small.params)

    to_train = [sliced("compressed", policy)]
    if settings.finish.controls:
        again = Network(
            "base_trained_on", base.apply, base.variables, base.trainable, base.macs, base.params
        )
        to_train += [again, sliced("uniform", uniform)]
    trained = {
        network.name: train_fully(
            network,
            base,
            evaluator.dataset,
            settings.finish,
            settings.seed,
            folder.path / "networks",
            notes.append,
        )
        for network in to_train
    }
    return {"base": base, **trained}


def _file_name(network: str) -> str:
    return {"compressed": "model.onnx", "base": "model_base.onnx"}.get(
        network, f"networks/{network}.onnx"
    )


def _judge(
    compressed: Network, paths: Mapping[str, Path], dataset: Dataset
) -> tuple[dict[str, np.ndarray], float]:
    """Which test images every ONNX file gets right, and how often JAX agrees on the class.

    The only place where the test split is read.
    """
    test = dataset.open_test()
    images = dataset.normalize(test.images)
    predicted = {name: Session(path).logits(images).argmax(-1) for name, path in paths.items()}
    logits = jax.jit(compressed.logits)
    batch = 250
    ours = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        padded = np.pad(part, ((0, batch - len(part)), (0, 0), (0, 0), (0, 0)))
        ours.append(np.asarray(logits(padded)).argmax(-1)[: len(part)])
    agreement = float((np.concatenate(ours) == predicted["compressed"]).mean())
    return {name: classes == test.labels for name, classes in predicted.items()}, agreement


def _entry(network: Network, path: Path, correct: np.ndarray, latency: Measurement) -> Entry:
    return {
        "test_accuracy": float(correct.mean()),
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


def _uniform_search_score(folder: RunFolder, evaluator: Evaluator, uniform: Policy) -> Entry:
    """The uniform policy's search evaluation, for the picture; no agent has seen it."""
    score = folder.read("uniform.json")
    if score is None:
        evaluation = evaluator(uniform)
        score = {"accuracy": evaluation.accuracy, "costs": evaluation.costs}
        write_json(folder.path / "uniform.json", score)
    return score


def _layer_rows(graph: Graph, policy: Policy) -> list[Entry]:
    full, kept = graph.full_counts(), policy.counts(graph)
    return [
        {
            "layer": layer.name,
            "group": next((group for group, _ in layer.c_out.groups), None),
            "channels": layer.c_out.at(full),
            "kept": layer.c_out.at(kept),
            "macs_base": layer.macs,
            "macs": layer.macs_at(kept),
        }
        for layer in graph.layers
    ]
