"""The objective ``--max-drop``: the cheapest network that is at most so many points worse.

Limits of the target's metric are tried one after the other, by bisection on their logarithm, which
takes it that less is lost at a higher limit. At each the agent searches, and the network that it
yields is trained in full, as one that is handed over is, and judged beside the base network on
held-out images: an episode's short training says which policy is good, not what will be lost.
A limit is kept where the lower bound of the difference is no lower than the loss that is allowed.
The bound is one-sided, and says how far the test images may differ, too: see ``promised``.
Where the search's network loses too much, the uniform policy gets its chance, so that no search
ends with a larger network than no search would have. Held-out images say what is lost and nothing
else: candidates of a limit are compared on those of the rewards, and so is what a training comes
to, step by step.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from envs import NetworkTask
from envs.decisions import Decisions
from envs.task import load_network
from experiments.records.run_folder import VALIDATION, RunFolder
from experiments.report.differences import paired_differences
from experiments.report.intervals import Difference
from experiments.run.choose import AT_A_LIMIT, Candidate, Chosen, choose
from experiments.run.search import Searched, make_problem, make_task, search
from experiments.run.training import Training, train_all
from experiments.settings.blocks import LengthBlock
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import say
from pfrl.cpu.backend import compiled
from pfrl.data import Dataset
from pfrl.evaluation.validation import batched, split_search
from pfrl.files import write_json
from pfrl.tasks.judging import validate
from pfrl.tasks.outputs import as_one
from pfrl.training.step import Apply

ROUNDS = 5
"""Limits that are tried: from 1 to 0.05 of the base they end within a tenth of each other."""
CLOSE = 1.05
"""Ratio of the lowest limit that is kept to the highest that is not, at which none is tried."""
NETWORKS = 2
"""That may be judged at a limit: the search's, and the uniform policy's where that one fails."""
HELD_OUT = 0.75
"""Share of the search split that no reward uses, at least: what is promised hangs on it."""
COMPRESSED, UNIFORM = "compressed", "uniform"
TRAINED = "networks"
TAKEN_OVER = ("history.jsonl", "validation.json", "search.json", "uniform.json", "rescored.json",
              "policy.json", "base.json", "agent.npz", "tb")  # fmt: skip
"""What the run keeps of the limit that it ends with, besides the trained network."""


class Tried(NamedTuple):
    """A limit and what its network loses.

    Attributes:
      share: the limit, as a share of the base network's cost.
      difference: quality of its network less the base's, on the held-out images.
      kept: whether no more is lost than is allowed.
      network: 'compressed' if it is the search's, else 'uniform'.
    """

    share: float
    difference: Difference
    kept: bool
    network: str = COMPRESSED


class Found(NamedTuple):
    """What is handed over.

    Attributes:
      settings: of the run, with the limit as its target.
      searched: the search at that limit.
      chosen: what of it is handed over.
      facts: the entry 'drop' of the report.
    """

    settings: CompressSettings
    searched: Searched
    chosen: Chosen
    facts: dict[str, Any]


def search_limits(
    settings: CompressSettings,
    folder: RunFolder,
    weights: Path,
    table: Path | None,
    evaluations: int,
) -> Found:
    """Try limits, and take over into the run's folder what the lowest one that is kept yields.

    Where none is kept, that is the highest one. A run that goes on searches and trains nothing
    that is there already.

    Args:
      settings: resolved ones, with ``max_drop``.
      folder: of the run, begun; every limit has a folder of its own in it.
      weights: of the base network.
      table: latency table, if latency matters.
      evaluations: of all searches together.
    """
    assert settings.max_drop is not None
    assert settings.target is not None, "not resolved"
    metric = settings.target.partition("=")[0]
    judge = (folder.read(VALIDATION) or {}).get("runtime")
    task = make_task(settings, weights, table, judge)
    opened = make_problem(settings, task).open()
    folder.kept(VALIDATION, opened.evaluator.choice._asdict)
    decisions = Decisions(make_problem(settings, task), opened.graph, opened.costs)
    held_out = HeldOut(settings, task)
    each = max(evaluations // ROUNDS, 1)
    searches: dict[float, tuple[CompressSettings, Searched, Chosen]] = {}

    def attempt(share: float) -> Tried:
        say(f"limit {len(searches) + 1} of at most {ROUNDS}: {metric} at most {share:.1%}")
        own = replace(
            settings,
            target=f"{metric}={share:g}",
            max_drop=None,
            length=LengthBlock(each),
            out=folder.path / "limits" / f"{share:g}",
        )
        place = RunFolder("compress", own, weights, "history.jsonl")
        place.begin()
        place.kept(VALIDATION, lambda: folder.read(VALIDATION))
        searched = search(own, place, make_problem(own, task), each)
        chosen = choose(own, place, searched, AT_A_LIMIT)

        def judged(name: str, candidate: Candidate) -> Tried:
            small = searched.opened.evaluator.network(candidate.policy)
            training = Training(
                name,
                task,
                small,
                own.finish,
                own.seed,
                place.path / TRAINED,
                rewarded=own.episode.search_images,
            )
            difference = held_out.difference(small.apply, train_all([training], say)[name])
            kept = -100 * difference.low <= (settings.max_drop or 0.0)
            return Tried(share, difference, kept, name)

        best = judged(COMPRESSED, chosen.candidate)
        if not best.kept and chosen.uniform.policy.to_json() != chosen.candidate.policy.to_json():
            say("the search's network loses too much: the uniform policy of this limit is tried")
            other = judged(UNIFORM, chosen.uniform)
            if other.difference.low > best.difference.low:
                best, chosen = other, chosen._replace(candidate=chosen.uniform)
                write_json(place.path / "policy.json", chosen.uniform.policy.to_json())
        searches[share] = own, searched, chosen
        return best

    tried = bisect(decisions.floor / decisions.base, attempt, ROUNDS)
    kept = [one for one in tried if one.kept]
    best = min(kept) if kept else max(tried)
    own, searched, chosen = searches[best.share]
    _take_over(own.out, folder.path, f"{best.network}.npz")
    facts = {
        "allowed": settings.max_drop / 100,
        "confidence": settings.confidence,
        "metric": metric,
        "share": best.share,
        "kept": best.kept,
        "held_out_images": held_out.count,
        "tried": [{**one._asdict(), "difference": one.difference._asdict()} for one in tried],
    }
    return Found(replace(own, out=settings.out), searched, chosen, facts)


def bisect(floor: float, attempt: Callable[[float], Tried], rounds: int = ROUNDS) -> list[Tried]:
    """Try limits between the lowest possible one and the base network's cost.

    Args:
      floor: the lowest limit that can be met, a share of the base network's cost.
      attempt: tries one.
      rounds: limits at most.

    Returns:
      What was tried, in order. A limit is tried below every one that is kept and above every one
      that is not.
    """
    tried: list[Tried] = []
    while len(tried) < rounds:
        high = min((one.share for one in tried if one.kept), default=1.0)
        low = max((one.share for one in tried if not one.kept), default=floor)
        if tried and high / low < CLOSE:
            break
        tried.append(attempt(max(round((low * high) ** 0.5, 3), floor)))
    return tried


class HeldOut:
    """The held-out images of a run, and the base network's answers for them.

    Args:
      settings: of the run.
      task: the base network and its data.
    """

    def __init__(self, settings: CompressSettings, task: NetworkTask):
        dataset, base = load_network(task.model, task.data, task.weights)
        self._dataset = dataset
        _, held_out = split_search(dataset.search, settings.episode.search_images)
        self._images = batched(dataset, held_out)
        self._confidence = promised(settings.confidence, len(held_out) / len(dataset.search))
        self._base = self._qualities(base.source.apply, base.source.variables)
        self.count = len(held_out)
        """Images."""

    def difference(self, apply: Apply, variables: Any) -> Difference:
        """How much better a network is than the base, with an interval at whose lower end the
        promise is: see ``promised``."""
        found, _ = paired_differences(
            self._qualities(apply, variables), {"base": self._base}, 2 * self._confidence - 1
        )
        return found["base"]

    def _qualities(self, apply: Apply, variables: Any) -> np.ndarray:
        answer = compiled(lambda v, x: as_one(apply(v, x, False)[0]), threads=1)
        return validate(
            lambda x: np.asarray(answer(variables, x)), self._images, self._dataset.task
        ).each


def promised(confidence: float, ratio: float) -> float:
    """How sure the held-out images have to be, so that the test images keep the promise.

    Two things are left to chance, and the margin is the root of the sum of their squares: what
    the held-out images say of one network, at a share of the confidence, as the best of up to
    ``NETWORKS`` at each of ``ROUNDS`` limits owes some of that to luck; and what the test images
    will say of it, as a prediction interval has it. How many test images there are is not looked
    at: as many as search images are taken for granted.

    Args:
      confidence: that the settings ask for.
      ratio: held-out images over test images.
    """
    shared = ndtri(1 - (1 - confidence) / (ROUNDS * NETWORKS))
    return float(ndtr(np.hypot(shared, ndtri(confidence) * ratio**0.5)))


def fewer_rewarded(settings: CompressSettings, dataset: Dataset) -> CompressSettings:
    """The same settings with ``HELD_OUT`` of the search split, at least, held out."""
    most = max(int(len(dataset.search) * (1 - HELD_OUT)), 1)
    episode = replace(settings.episode, search_images=min(settings.episode.search_images, most))
    return replace(settings, episode=episode)


def _take_over(source: Path, target: Path, network: str) -> None:
    """Copy what the end of a run goes on from, one network as the compressed one; what is there
    already is kept."""
    names = {name: name for name in TAKEN_OVER}
    names[f"{TRAINED}/{network}"] = f"{TRAINED}/{COMPRESSED}.npz"
    for name, here in names.items():
        old, new = source / name, target / here
        if new.exists() or not old.exists():
            continue
        new.parent.mkdir(parents=True, exist_ok=True)
        if old.is_dir():
            shutil.copytree(old, new)
        else:
            part = new.with_name(f"{new.name}.part")
            shutil.copy2(old, part)
            part.replace(new)
