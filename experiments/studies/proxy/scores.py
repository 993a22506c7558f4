"""``pfrl proxy``: how well the score of an evaluation ranks policies, against a long fine-tuning.

A search sees a policy by a short evaluation, and hands over a network that is trained for
long. What counts is whether both put policies of equal cost into the same order.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.decisions import Decisions
from envs.problem import Problem
from envs.task import NetworkTask, load_network
from experiments.records.run_folder import VALIDATION, RunFolder
from experiments.run.inputs import find_weights
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.studies.proxy.settings import ProxySettings
from experiments.studies.proxy.table import LONG, write_study
from experiments.studies.study import complete, show_plan
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import PLAIN, REPAIRED
from pfrl.cost import Assignment, Budget, CostModel, largest_that_fits
from pfrl.data import Dataset
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.evaluation.base import Choice, Tuning
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.graph import Graph
from pfrl.tasks.judging import validate
from pfrl.training.fit import Diverged

EQUAL = 0.02
"""How far below the limit costs may lie that count as equal, as a share of it."""
DRAWS = 1_000
"""Draws for every policy that is asked for, before it is said that there are none."""
PARTS = 2**40
"""Of the interval in which the common factor of all actions is looked for."""


class Scored(NamedTuple):
    """One job: a policy, by its number, and how it is scored: a fidelity or ``LONG``."""

    number: int
    fidelity: str


def run(settings: ProxySettings) -> list[Path]:
    """Score every policy that is not recorded yet; returns the paths of tables and picture.

    Raises:
      ValueError: a subclass with a sentence for the user, if what was given is wrong.
    """
    if Budget.parse(settings.target).needs_latency:
        raise SettingsError(
            "policies of equal latency are not drawn; give macs, params, bytes or bops"
        )
    weights = find_weights(settings.network)
    folder = RunFolder("proxy", settings, weights)
    settings = replace(settings, network=replace(settings.network, weights=weights))
    _, graph = opened(settings.network)
    policies = draw_policies(settings, graph)
    # Fidelity by fidelity, for a process keeps one evaluator at a time.
    jobs = [
        Scored(number, fidelity)
        for fidelity in (*settings.fidelities, LONG)
        for number in range(len(policies))
    ]
    if settings.launch.dry_run:
        show_plan(folder, jobs, settings.launch, "scores")
        return []
    folder.begin()
    with stage("measuring which runtime judges"):
        judge = folder.kept(VALIDATION, lambda: choose_judge(settings)._asdict())["runtime"]
    work = partial(score, settings, judge, policies)
    lines = complete(folder, jobs, work, settings.launch, "scores", watched=True)
    return write_study(folder.path, lines, folder.facts)


def opened(network: NetworkBlock) -> tuple[Dataset, Graph]:
    """The data set, and the network that all policies are of; its weights were found."""
    return load_network(network.model, network.data, str(network.weights))


def draw_policies(settings: ProxySettings, graph: Graph) -> list[Policy]:
    """Different random policies, all of which cost what the target says; more begin with the same.

    Args:
      settings: how many, the target and the seed.
      graph: of the base network.

    Raises:
      SettingsError: if there are not as many.
      BudgetError: if the target cannot be met.
    """
    network, budget = settings.network, Budget.parse(settings.target)
    task = NetworkTask(network.model, network.data, str(network.weights))
    problem = Problem(task, budget=budget, keep_min=settings.keep_min, round_to=settings.round_to)
    decisions = Decisions(problem, graph, CostModel(graph))
    assert decisions.limit is not None
    rng = np.random.default_rng([settings.seed, 6])
    found: list[Policy] = []
    for _ in range(DRAWS * settings.policies):
        at = draw(decisions, decisions.limit, rng)
        policy = at.policy(graph)
        if decisions.cost(at) >= (1 - EQUAL) * decisions.limit and policy not in found:
            found.append(policy)
        if len(found) == settings.policies:
            return found
    raise SettingsError(
        f"found {len(found)} of {settings.policies} different policies that cost"
        f" {1 - EQUAL:.0%} to 100% of {settings.target}; ask for fewer, or lower round_to"
    )


def draw(decisions: Decisions, limit: float, rng: np.random.Generator) -> Assignment:
    """Random actions, all times the largest factor with which they meet the limit.

    Actions are uniform on their interval, seen from its lower end; products beyond the upper
    end stand for it. Unlike decisions that are cut off one after the other by the budget, this
    treats all layers alike.
    """
    decided = [decision for _, decision in decisions.all()]
    shares = 1 - rng.random(len(decided))  # In (0, 1].

    def assigned(factor: float) -> Assignment:
        at = decisions.start.copy()
        for decision, share in zip(decided, shares, strict=True):
            decision.set(at, decision.choice(min(2 * share * factor, 2) - 1))
        return at

    longest = 1 / float(shares.min())
    part = largest_that_fits(
        range(PARTS + 1),
        lambda part: decisions.cost(assigned(longest * part / PARTS)) <= limit,
        monotone=True,
    )
    return assigned(longest * part / PARTS)


def choose_judge(settings: ProxySettings) -> Choice:
    """Which runtime judges, of an evaluator that trains nothing."""
    dataset, graph = opened(settings.network)
    config = EpisodeConfig(steps=0, search_images=settings.search_images)
    seed = settings.seed
    return NetworkEvaluator(graph, dataset, CostModel(graph), config, seed, False, PLAIN).choice


def score(
    settings: ProxySettings, judge: str, policies: Sequence[Policy], job: Scored
) -> dict[str, Any]:
    """What the line of a policy says of a fidelity, or of the long fine-tuning.

    Args:
      settings: of the study.
      judge: the runtime that judges.
      policies: all policies of the study.
      job: which of them, and by which fidelity.

    Returns:
      ``accuracy`` (of the long fine-tuning ``held_out`` too), ``diverged``, ``seconds``, the
      seconds of the fidelity's ``setup``, ``costs`` by metric, and the ``policy``.
    """
    evaluator, setup = evaluator_of(settings, judge, job.fidelity)
    policy, start = policies[job.number], time.perf_counter()
    if job.fidelity == LONG:
        found = score_long(settings, evaluator, policy)
        seconds = time.perf_counter() - start
    else:
        evaluation = evaluator.evaluate(policy)
        found = {"accuracy": evaluation.accuracy, "diverged": evaluation.diverged}
        seconds = evaluation.seconds
    return {
        **found,
        "seconds": seconds,
        "setup": setup,
        "costs": evaluator.costs.of(policy),
        "policy": policy.to_json(),
    }


def score_long(
    settings: ProxySettings, evaluator: NetworkEvaluator, policy: Policy
) -> dict[str, Any]:
    """Accuracies after the long fine-tuning, on the evaluations' images and on held-out ones.

    Args:
      settings: how long it is.
      evaluator: prepares and trains, and has the images.
      policy: of the network.
    """
    try:
        tuning = Tuning(settings.long_images, settings.learning_rate, settings.seed)
        small = evaluator.network(policy, tuning)
    except Diverged:
        return {"accuracy": 0.0, "held_out": 0.0, "diverged": True}
    judge = RUNTIMES["onnx"].judge(small, evaluator.graph.input_shape)
    same, held_out = (
        validate(judge, evaluator.images[which], evaluator.dataset.task)
        for which in ("reward", "held_out")
    )
    return {"accuracy": same.quality, "held_out": held_out.quality, "diverged": False}


@lru_cache(maxsize=1)
def evaluator_of(
    settings: ProxySettings, judge: str, fidelity: str
) -> tuple[NetworkEvaluator, float]:
    """The evaluator of a fidelity, with everything compiled.

    The long fine-tuning begins without a repair, as none of the fidelities does.

    Args:
      settings: of the study.
      judge: the runtime that judges.
      fidelity: its name, or ``LONG``.

    Returns:
      the evaluator, and the seconds that it took to make it, those of a shared network that was
      read back included.
    """
    start = time.perf_counter()
    dataset, graph = opened(settings.network)
    kind: Any = "finetune" if fidelity == LONG else fidelity
    config = EpisodeConfig(
        kind,
        search_images=settings.search_images,
        validation=judge,
        supernet_steps=settings.supernet_steps,
    )
    # For the shared network, which lies beside it for the next start and other processes.
    beside = settings.out / "supernet.cache" if fidelity == "supernet" else None
    evaluator = NetworkEvaluator(
        graph,
        dataset,
        CostModel(graph),
        config,
        settings.seed,
        quantized=False,
        recipe=PLAIN if fidelity == LONG else REPAIRED,
        beside=beside,
    )
    if fidelity != LONG:
        evaluator.evaluate(Policy.uniform(graph, 0.5, round_to=settings.round_to))
    return evaluator, time.perf_counter() - start + evaluator.spent_before
