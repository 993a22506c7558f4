"""Which policy is handed over: the best few are judged again, on held-out images."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, NamedTuple

from agents import Episode
from agents.base import PROBE
from envs.decisions import Decisions
from envs.rewards import REWARDS, Reference, reward_of
from experiments.records.run_folder import RunFolder
from experiments.report.differences import paired_differences
from experiments.run.inputs import needs_latency
from experiments.run.latency import measure_policies
from experiments.run.search import Searched
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.cost.model import Assignment
from pfrl.cpu.backend import slow_steps
from pfrl.deploy.timing import LatencyRatio, latency_ratio
from pfrl.evaluation.base import Evaluator
from pfrl.evaluation.config import Evaluation
from pfrl.files import write_json

Entry = dict[str, Any]

RESCORE_PASSES, RESCORE_STEPS, FEW_STEPS = 4, 128, 32
"""How long candidates are fine-tuned: so many passes over the training images, so many steps at
most, and so many where a step takes seconds."""


class Candidate(NamedTuple):
    """A policy that may be handed over.

    Attributes:
      episode: number of the episode that it comes from; None for the uniform policy.
      policy: what is done to the network.
      evaluation: what the search's reward was made of.
    """

    episode: int | None
    policy: Policy
    evaluation: Evaluation


def find_candidates(history: Sequence[Episode], count: int, uniform: Candidate) -> list[Candidate]:
    """The ``count`` different policies of the highest rewards, and the uniform one.

    The uniform policy is on the list because nobody wants a network that a
    search made worse than no search would have been.
    """
    possible = [e for e in history if e.phase != PROBE]
    sound = [e for e in possible if not e.evaluation.diverged] or possible
    found: dict[str, Candidate] = {}
    for episode in sorted(sound, key=lambda e: (-e.reward, e.index)):
        if len(found) < count:
            candidate = Candidate(episode.index, episode.policy, episode.evaluation)
            found.setdefault(str(episode.policy.to_json()), candidate)
    found.setdefault(str(uniform.policy.to_json()), uniform)
    return list(found.values())


Pick = Callable[[Sequence[Entry], float | None], int]
"""``pick(rows, share)``: the position of the row that is handed over."""


def best_found(rows: Sequence[Entry], share: float | None) -> int:
    """The position of the search's best row, however little it leads; of equal ones the one that
    costs most.

    For who asks for the best at a limit, tries lower ones besides, and has the uniform policy. With
    few images many rows are equal, and a cheaper one that then loses too much would speak against
    the limit. Arguments are those of ``cheapest_alike``.
    """
    eligible = _eligible(rows, share)
    found = [n for n in eligible if rows[n]["episode"] is not None] or eligible
    return max(found, key=lambda n: (rows[n]["rescored_reward"], rows[n]["cost"]))


def cheapest_alike(rows: Sequence[Entry], share: float | None) -> int:
    """The position of the row that is handed over.

    Of the rows that cannot be told apart from the best one (the interval of the difference
    includes 0), the cheapest: otherwise chance could hand over a network that another one, such as
    the uniform policy, beats in cost and equals in quality.

    Args:
      rows: with ``cost``, ``rescored_reward`` and ``behind_best``, None of the best itself.
      share: see ``_eligible``.
    """

    def alike(n: int) -> bool:
        behind = rows[n]["behind_best"]
        return behind is None or behind["low"] <= 0

    found = filter(alike, _eligible(rows, share))
    return min(found, key=lambda n: (rows[n]["cost"], -rows[n]["rescored_reward"]))


class Rule(NamedTuple):
    """How one of the candidates is chosen.

    Attributes:
      images: they are judged by: 'held_out', or those of the 'reward'.
      pick: which row is taken.
    """

    images: str
    pick: Pick


HANDED_OVER = Rule("held_out", cheapest_alike)
"""What a search ends with."""
AT_A_LIMIT = Rule("reward", best_found)
"""Where held-out images are to promise something of the network: they must not have chosen it."""


def _eligible(rows: Sequence[Entry], share: float | None) -> list[int]:
    """Positions of the rows that did not diverge and whose latency is at most ``share`` of the
    base's, as far as its interval can tell: a network is not given up for a fraction of a percent
    that the next measurement would not show. Of all rows, where there is none."""
    everything = range(len(rows))
    sound = [n for n in everything if not rows[n]["diverged"]] or list(everything)
    if share is None:
        return sound
    return [n for n in sound if rows[n]["latency_low"] <= share] or sound


class Chosen(NamedTuple):
    """What is handed over of a search.

    Attributes:
      decisions: of the problem that was searched.
      uniform: the control: a candidate too.
      candidate: what was chosen.
      table: ``{"images", "metric", "candidates"}``: by how many images candidates were judged, in
        which metric one is cheaper, and a row a candidate.
    """

    decisions: Decisions
    uniform: Candidate
    candidate: Candidate
    table: Entry

    @property
    def facts(self) -> Entry:
        """What the report tells of it in its entry 'search'."""
        return {
            "rescored": self.table["candidates"],
            "rescored_images": self.table["images"],
            "cheapest_in": self.table["metric"],
            "chosen": self.candidate.episode,
            "uniform": {
                "accuracy": self.uniform.evaluation.accuracy,
                "costs": self.uniform.evaluation.costs,
            },
        }


def choose(
    settings: CompressSettings, folder: RunFolder, searched: Searched, rule: Rule = HANDED_OVER
) -> Chosen:
    """What is handed over of a finished search; its policy is written down.

    Args:
      settings: of the run.
      folder: of the run; keeps what is computed here, for a run that goes on.
      searched: the finished search.
      rule: how one of the candidates is chosen.
    """
    opened, problem = searched.opened, searched.problem
    graph, costs, evaluator = opened.graph, opened.costs, opened.evaluator
    decisions = Decisions(problem, graph, costs)
    reference = Reference(
        opened.base_accuracy,
        costs.base,
        problem.latency_target(costs.base),
        problem.latency_exponent,
    )
    limit, best = decisions.limit, searched.result.best.policy
    like = decisions.cost(Assignment.of(best, graph)) if limit is None else limit
    policy = decisions.uniform(like).policy(graph)
    # Evaluated as an episode's; no agent has seen it.
    score = folder.kept("uniform.json", lambda: evaluator.evaluate(policy)._asdict())
    uniform = Candidate(None, policy, Evaluation(**score))
    found = choose_policy(settings, folder, searched, reference, uniform, decisions.metric, rule)
    write_json(folder.path / "policy.json", found[0].policy.to_json())
    return Chosen(decisions, uniform, *found)


def choose_policy(
    settings: CompressSettings,
    folder: RunFolder,
    searched: Searched,
    reference: Reference,
    uniform: Candidate,
    metric: str,
    rule: Rule,
) -> tuple[Candidate, Entry]:
    """The candidate that is handed over, and how all candidates were judged.

    The best of many owes some of its score to luck, and after a few steps of
    fine-tuning policies rank differently than after many (so in Distiller's
    AMC experiments). So the candidates are fine-tuned for longer and judged on
    held-out images, which no reward has used. Where latency matters, it is now
    measured on the exported candidates.

    Args:
      settings: of the run.
      folder: keeps the scores in ``rescored.json``, for a run that goes on.
      searched: the finished search.
      reference: what rewards are computed from.
      uniform: a candidate besides the best of the search.
      metric: of the target.
      rule: by which images candidates are judged, and which of them is chosen.

    Returns:
      The candidate, and ``{"images", "metric", "candidates"}``: by how many images candidates were
      judged, in which metric one is cheaper, and a row a candidate.
    """
    metric = metric_of_ties(settings.reward or "", metric)
    evaluator = searched.opened.evaluator
    candidates = find_candidates(searched.result.history, settings.finish.candidates, uniform)
    budget, share = searched.problem.budget, None
    if budget is not None and budget.metric == "latency":
        share = budget.limit(reference.costs) / reference.costs["latency"]
    table = folder.kept(
        "rescored.json",
        lambda: _rescore(settings, evaluator, candidates, reference, metric, share, rule.images),
    )
    return candidates[rule.pick(table["candidates"], share)], table


def metric_of_ties(reward: str, target: str) -> str:
    """In which metric the cheapest of equally good networks is handed over.

    A reward that weighs a cost says what is wanted beyond the target, which all candidates meet.
    """
    return next(iter(REWARDS[reward].needs), target)


def _rescore(
    settings: CompressSettings,
    evaluator: Evaluator,
    candidates: Sequence[Candidate],
    reference: Reference,
    metric: str,
    share: float | None,
    images: str,
) -> Entry:
    speeds = _measure(settings, evaluator, candidates)
    rows, qualities = [], {}
    steps = settings.finish.rescore_steps
    if steps is None:
        a_pass = len(evaluator.dataset.train) / settings.episode.batch
        most = FEW_STEPS if slow_steps(evaluator.dataset.image_shape) else RESCORE_STEPS
        steps = min(ceil(RESCORE_PASSES * a_pass), most)
    with stage("re-scoring candidates", len(candidates), "candidates") as progress:
        for place, (candidate, speed) in enumerate(zip(candidates, speeds, strict=True)):
            judged = evaluator.score(candidate.policy, images, steps)
            costs = dict(candidate.evaluation.costs)
            if speed is not None:
                costs["latency"] = speed.value * reference.costs["latency"]
            evaluation = Evaluation(judged.quality, costs, 0.0, not judged.finite)
            qualities[str(place)] = judged.each
            rows.append(
                {
                    "episode": candidate.episode,
                    "search_accuracy": candidate.evaluation.accuracy,
                    "rescored_accuracy": judged.quality,
                    "rescored_reward": reward_of(settings.reward or "", evaluation, reference),
                    "latency_ratio": None if speed is None else speed.value,
                    "latency_low": None if speed is None else speed.low,
                    "cost": costs[metric],
                    "diverged": not judged.finite,
                }
            )
            progress(place + 1, len(candidates))
    best = max(_eligible(rows, share), key=lambda n: rows[n]["rescored_reward"])
    differences, _ = paired_differences(qualities[str(best)], qualities)
    for place, row in enumerate(rows):
        row["behind_best"] = None if place == best else differences[str(place)]._asdict()
    return {"images": len(qualities[str(best)]), "metric": metric, "candidates": rows}


def _measure(
    settings: CompressSettings, evaluator: Evaluator, candidates: Sequence[Candidate]
) -> list[LatencyRatio | None]:
    """Measured latency of every candidate over the base's; None where latency does not matter."""
    if not needs_latency(settings):
        return [None] * len(candidates)
    graph = evaluator.graph
    policies = [Policy.uniform(graph), *(candidate.policy for candidate in candidates)]
    with stage("measuring candidates"):
        seconds, runtime = 2 * settings.finish.seconds, settings.space.latency_runtime
        base, *others = measure_policies(graph, policies, seconds, runtime)
    return [latency_ratio(other, base) for other in others]
