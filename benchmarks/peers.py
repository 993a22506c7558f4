"""One evaluation of a policy here and in PyTorch: seconds, and how well it ranks policies.

    pip install -c constraints.txt -e '.[benchmarks]'
    python -m benchmarks.peers --data imagefolder:PATH --weights W.npz

The same policies of a CIFAR ResNet, the same channels, the same training batches and all
images of the search split. Processes, one a contestant, evaluate in turns on all cores, so that
what disturbs the machine disturbs all. Prints a table, writes ``peers.json`` and
``peers.md``.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro

from benchmarks.peers_table import CONTESTANTS, PYTORCH, RACE, Case, describe, summarize
from benchmarks.peers_torch import CifarResNet, equal_of, evaluate, removed_outputs, to_torch
from benchmarks.peers_torch import prune as prune_torch
from envs.task import load_network
from experiments.records.history import read_history
from experiments.records.machine import machine
from experiments.run.inputs import find_weights
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.studies.proxy.scores import draw_policies
from experiments.studies.proxy.settings import ProxySettings
from experiments.studies.proxy.table import LONG
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.cost import CostModel
from pfrl.cpu import cores, keep_memory
from pfrl.data import Dataset
from pfrl.deploy.runtimes.base import AT_ONCE, RUNTIMES
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.validation import batched
from pfrl.files import write_json, write_text
from pfrl.graph import Graph

PARTS = {"reconstruct": "pruning and repair", "finetune": "pruning and fine-tuning"}
"""What comes before our validation."""
TOLERANCE = 1e-3
"""Largest difference of logits between the two networks, as a share of the largest logit."""
PACKAGES = ("torch", "torch-pruning", "jax", "onnxruntime", "numpy")


@dataclass(frozen=True)
class PeersSettings:
    """Compare an evaluation of a policy with the usual one in PyTorch, in one run."""

    model: str = "resnet20"
    """A CIFAR ResNet with option A's shortcuts: resnet8, resnet20, resnet32, ..."""
    data: str = "fashion_mnist"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    target: str = "macs=0.5"
    """Cost that all policies have, where they are drawn."""
    policies: int = 12
    """How many."""
    proxy: Path | None = None
    """Directory of a study by 'pfrl proxy' of the same network: its policies are taken, and ranks
    compared with its long fine-tuning. Default: policies are drawn."""
    steps: int = 16
    """Steps of fine-tuning, of 64 images."""
    autocast: bool = False
    """Let PyTorch compute in bfloat16 where it takes that to be safe (torch.autocast)."""
    validation: str = "auto"
    """The runtime that judges, as of --episode.validation. Where ONEDNN_MAX_CPU_ISA imitates an
    older processor, openvino keeps to it, and ONNX Runtime does not."""
    seed: int = 0
    """Seed of the policies, of the training images and of the intervals."""
    out: Path = Path("runs/peers")
    """Directory of peers.json and peers.md."""


class Peer(NamedTuple):
    """What an evaluation in PyTorch needs."""

    model: CifarResNet
    tuning: Any
    images: Any


def run(settings: PeersSettings) -> list[Path]:
    """Evaluate every policy by every contestant; print and write what was found.

    Raises:
      ValueError: if what was given is wrong, or the two networks differ.
    """
    found, lines, worst = compare(settings)
    facts = {
        "command": " ".join(["python -m benchmarks.peers", *sys.argv[1:]]),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(settings).items()},
        "machine": machine(),
        "versions": {package: version(package) for package in PACKAGES},
        "logits_differ_by": worst,
    }
    text = describe(found, facts)
    print(text)
    data = {**facts, **found, "evaluations": lines}
    return [
        write_json(settings.out / "peers.json", data),
        write_text(settings.out / "peers.md", text + "\n"),
    ]


def compare(settings: PeersSettings) -> tuple[dict[str, Any], list[dict[str, Any]], float]:
    """What ``peers_table.summarize`` makes of all evaluations, these, and how the logits differ.

    Raises:
      ValueError: if what was given is wrong, or the two networks differ.
    """
    if not settings.model.removeprefix("resnet").isdigit() or settings.policies < 2:
        raise SettingsError(
            "expected a model such as resnet20 and at least two policies; got"
            f" {settings.model} and {settings.policies}"
        )
    weights = find_weights(NetworkBlock(settings.model, settings.data, weights=settings.weights))
    settings = dataclasses.replace(settings, weights=weights)
    cases = find_cases(settings)
    lines = []
    with ExitStack() as stack:
        # A process each: the threads of one library would wait for work beside the other's, and
        # an evaluation would find the memory of another fidelity, whose programs are larger.
        pools = {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), keep_memory))
            for name in CONTESTANTS
        }
        worst = check(settings, cases, pools[PYTORCH])
        with stage(f"{len(cases)} policies", len(cases), "policies") as progress:
            for place, case in enumerate(cases):
                lines += take_turns(settings, pools, place, case.policy)
                progress(place + 1, len(cases))
    return summarize(lines, cases, settings.seed), lines, worst


def find_cases(settings: PeersSettings) -> list[Case]:
    """The first policies of the study, or as many drawn ones."""
    if settings.proxy is not None:
        lines = [x for x in read_history(settings.proxy / "results.jsonl") if x["fidelity"] == LONG]
        lines = sorted(lines, key=lambda line: line["number"])[: settings.policies]
        if len(lines) < 2:
            raise SettingsError(
                f"{settings.proxy} has {len(lines)} policies after a long fine-tuning, expected two"
                " or more; finish the study with 'pfrl proxy'"
            )
        return [Case(Policy.from_json(line["policy"]), line) for line in lines]
    drawn = ProxySettings(
        NetworkBlock(settings.model, settings.data, weights=settings.weights),
        settings.target,
        settings.policies,
        seed=settings.seed,
    )
    return [Case(policy, None) for policy in draw_policies(drawn, load(settings)[1])]


def load(settings: PeersSettings) -> tuple[Dataset, Graph]:
    return load_network(settings.model, settings.data, str(settings.weights))


def check(settings: PeersSettings, cases: Sequence[Case], pool: Executor) -> float:
    """The largest difference of the two libraries' logits, of the network whole and pruned.

    Raises:
      ValueError: if it is more than ``TOLERANCE``.
    """
    whole = Policy.uniform(load(settings)[1])
    policies = [whole, *(case.policy for case in cases)]
    worst = max(pool.submit(gap, settings, policy).result() for policy in policies)
    if worst > TOLERANCE:
        raise ValueError(f"logits differ by {worst:.1e} of the largest, expected {TOLERANCE}")
    return worst


def gap(settings: PeersSettings, policy: Policy) -> float:
    """Largest difference of logits after the same pruning, without any training."""
    graph, peer = load(settings)[1], peer_of(settings)
    x = peer.images[0][0]
    small = compress(graph.source, policy, graph=graph)
    ours = RUNTIMES["onnx"].judge(small, graph.input_shape)(x.permute(0, 2, 3, 1).numpy())
    pruned = prune_torch(peer.model, removed_outputs(graph, small.kept), x[:1])
    with torch.inference_mode():
        theirs = pruned.eval()(x).numpy()
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def take_turns(
    settings: PeersSettings, pools: Mapping[str, Executor], place: int, policy: Policy
) -> list[dict[str, Any]]:
    """A policy by all contestants one after the other; the next policy begins with the next."""
    first = place % len(CONTESTANTS)
    order = CONTESTANTS[first:] + CONTESTANTS[:first]
    if place == 0:
        for name in order:
            pools[name].submit(measured, settings, name, policy).result()
    return [
        {"policy": place, "contestant": name, **found}
        for name in order
        for found in [pools[name].submit(measured, settings, name, policy).result()]
    ]


def measured(settings: PeersSettings, contestant: str, policy: Policy) -> dict[str, Any]:
    """Accuracy and seconds of an evaluation; what is the same for all policies is made before."""
    graph = load(settings)[1]
    if contestant == PYTORCH:
        peer, config = peer_of(settings), EpisodeConfig("finetune")
        removed = removed_outputs(graph, compress(graph.source, policy, graph=graph).kept)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.autocast):
            found = evaluate(
                peer.model,
                removed,
                peer.tuning,
                peer.images,
                config.learning_rate,
                config.weight_decay,
            )
        seconds = sum(found.seconds.values())
        return {"accuracy": found.accuracy, "seconds": seconds, "parts": found.seconds}
    evaluator = evaluator_of(settings, contestant)
    before = dict(evaluator.seconds)
    evaluation = evaluator.evaluate(policy)
    spent = {name: seconds - before[name] for name, seconds in evaluator.seconds.items()}
    part = PARTS[contestant.removesuffix(RACE)]
    parts = {part: spent["training"], "validation": spent["validation"]}
    return {"accuracy": evaluation.accuracy, "seconds": evaluation.seconds, "parts": parts}


@lru_cache
def peer_of(settings: PeersSettings) -> Peer:
    """The torch network with our weights and, as its tensors, our images."""
    torch.set_num_threads(len(cores()))
    dataset, graph = load(settings)
    model = equal_of(settings.model, dataset, graph)
    batch = EpisodeConfig().batch
    rng = np.random.default_rng([settings.seed, 1])
    tuning = dataset.training_batches(batch, rng, settings.steps)
    images = to_torch(batched(dataset, dataset.search), AT_ONCE)
    return Peer(model, to_torch(tuning, batch), images)


@lru_cache
def evaluator_of(settings: PeersSettings, contestant: str) -> NetworkEvaluator:
    """The evaluator of a fidelity, which judges on all images of the search split or races."""
    dataset, graph = load(settings)
    fidelity: Any = contestant.removesuffix(RACE)
    stop: Any = "race" if contestant.endswith(RACE) else "never"
    config = EpisodeConfig(
        fidelity, settings.steps, early_stop=stop, validation=settings.validation
    )
    costs = CostModel(graph)
    evaluator = NetworkEvaluator(graph, dataset, costs, config, settings.seed, quantized=False)
    evaluator.images["reward"] = batched(dataset, dataset.search)
    return evaluator


def main(arguments: Sequence[str] | None = None) -> None:
    for path in run(tyro.cli(PeersSettings, prog="python -m benchmarks.peers", args=arguments)):
        print(path)


if __name__ == "__main__":
    main()
