"""The objective ``--max-drop``: the cheapest network that is at most so many points worse.

Limits of the target's metric are tried one after the other, from the base network's cost down
until one is not kept, and then between these two: see ``descend``. At each the agent searches, and
the network that it yields is trained in full, as one that is handed over is, and judged beside the
base network on held-out images: an episode's short training says which policy is good, not what
will be lost. A limit is kept where the lower bound of the difference is no lower than the loss that
is allowed. The bound is one-sided, and says how far the test images may differ, too: see
``promised``.

Held-out images say once a limit what its network loses, and nothing else. Candidates of a limit are
compared on the images of the rewards; so is what a training comes to, step by step; and by them the
uniform policy's network, trained alike, takes the place of the search's where that one loses too
much.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from envs.decisions import Decisions
from envs.task import load_network
from experiments.records.run_folder import VALIDATION, RunFolder
from experiments.report.intervals import Difference
from experiments.run.choose import AT_A_LIMIT, Candidate, Chosen, choose
from experiments.run.promise import Beside, promised
from experiments.run.search import Searched, make_problem, make_task, search
from experiments.run.training import Training, train_all
from experiments.settings.blocks import LengthBlock
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import say
from pfrl.data import Dataset
from pfrl.evaluation.validation import split_search
from pfrl.files import write_json
from pfrl.training.step import Apply

ROUNDS = 5
"""Limits that are tried."""
STEP = 0.6
"""From a limit that is kept to the next lower one, while none is known that is not kept."""
CLOSE = 1.05
"""Ratio of the lowest limit that is kept to the highest that is not, at which none is tried."""
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
    allowed = settings.max_drop
    metric = settings.target.partition("=")[0]
    judge = (folder.read(VALIDATION) or {}).get("runtime")
    task = make_task(settings, weights, table, judge)
    opened = make_problem(settings, task).open()
    folder.kept(VALIDATION, opened.evaluator.choice._asdict)
    decisions = Decisions(make_problem(settings, task), opened.graph, opened.costs)
    dataset, base = load_network(task.model, task.data, task.weights)
    used, rest = split_search(dataset.search, settings.episode.search_images)
    rewarded = Beside(dataset, base.source, used)
    held_out = Beside(dataset, base.source, rest)
    sure = promised(settings.confidence, len(rest) / len(dataset.search))
    _warn_of_few(held_out, sure, settings)
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

        def trained(name: str, candidate: Candidate) -> tuple[Apply, Any]:
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
            return small.apply, train_all([training], say)[name]

        name, network = COMPRESSED, trained(COMPRESSED, chosen.candidate)
        gain = rewarded.difference(*network).difference
        same = chosen.uniform.policy.to_json() == chosen.candidate.policy.to_json()
        if -100 * gain > allowed and not same:
            say("the search's network loses too much: the uniform policy of this limit is tried")
            other = trained(UNIFORM, chosen.uniform)
            if rewarded.difference(*other).difference > gain:
                name, network = UNIFORM, other
                chosen = chosen._replace(candidate=chosen.uniform)
                write_json(place.path / "policy.json", chosen.uniform.policy.to_json())
        searches[share] = own, searched, chosen
        difference = held_out.difference(*network, sure)
        return Tried(share, difference, -100 * difference.low <= allowed, name)

    tried = descend(decisions.floor / decisions.base, attempt, ROUNDS)
    kept = [one for one in tried if one.kept]
    best = min(kept) if kept else max(tried)
    own, searched, chosen = searches[best.share]
    _take_over(own.out, folder.path, f"{best.network}.npz")
    facts = {
        "allowed": allowed / 100,
        "confidence": settings.confidence,
        "metric": metric,
        "share": best.share,
        "kept": best.kept,
        "held_out_images": held_out.count,
        "tried": [{**one._asdict(), "difference": one.difference._asdict()} for one in tried],
    }
    return Found(replace(own, out=settings.out), searched, chosen, facts)


def descend(floor: float, attempt: Callable[[float], Tried], rounds: int = ROUNDS) -> list[Tried]:
    """Try limits from the base network's cost down, and then around the first that is not kept.

    The more a network may cost, the less it loses, so the first limits are kept easily. To go down
    and to end where one is not kept leaves little to luck; a bisection from the middle tries most
    of its limits where chance decides.

    Args:
      floor: the lowest limit that can be met, a share of the base network's cost.
      attempt: tries one.
      rounds: limits at most.

    Returns:
      What was tried, in order. Where one is not kept, the limits after it lie, on their logarithm,
      in the middle of the lowest that is kept, or the base's cost, and the highest that is not.
    """
    lowest = ceil(1000 * floor) / 1000
    tried: list[Tried] = []
    while len(tried) < rounds:
        high = min((one.share for one in tried if one.kept), default=1.0)
        low = max((one.share for one in tried if not one.kept), default=None)
        if high <= lowest or (low is not None and high / low < CLOSE):
            break
        middle = high * STEP if low is None else (low * high) ** 0.5
        tried.append(attempt(max(round(middle, 3), lowest)))
    return tried


def _warn_of_few(held_out: Beside, sure: float, settings: CompressSettings) -> None:
    """Say before the search where there are too few held-out images to promise anything."""
    least = -100 * held_out.same(sure).low
    if least > (settings.max_drop or 0.0):
        say(
            f"{held_out.count:,} held-out images are too few for --max-drop {settings.max_drop:g}:"
            f" with {settings.confidence:.0%} confidence they could not even say of the base"
            f" network itself that it loses less than {least:.2g} points; have more images in the"
            " search split, allow more, or lower --confidence"
        )


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
