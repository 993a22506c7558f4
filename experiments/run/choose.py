"""Which policy is handed over: the best few are judged again, on images that no reward has used."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from agents import Episode
from envs.rewards import Reference, reward_of
from experiments.records.run_folder import RunFolder
from experiments.run.inputs import needs_latency
from experiments.run.latency import measure_policies
from experiments.run.search import Searched
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.deploy.timing import latency_ratio
from pfrl.evaluation.base import Evaluator
from pfrl.evaluation.config import Evaluation
from pfrl.files import write_json

Entry = dict[str, Any]


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


def find_candidates(
    history: Sequence[Episode], count: int, uniform: Candidate | None
) -> list[Candidate]:
    """The ``count`` different policies of the highest rewards, and the uniform one.

    The uniform policy is on the list because nobody wants a network that a
    search made worse than no search would have been.
    """
    sound = [e for e in history if not e.evaluation.diverged] or history
    found: dict[str, Candidate] = {}
    for episode in sorted(sound, key=lambda e: (-e.reward, e.index)):
        if len(found) < count:
            candidate = Candidate(episode.index, episode.policy, episode.evaluation)
            found.setdefault(str(episode.policy.to_json()), candidate)
    if uniform is not None:
        found.setdefault(str(uniform.policy.to_json()), uniform)
    return list(found.values())


def choose_policy(
    settings: CompressSettings,
    folder: RunFolder,
    searched: Searched,
    reference: Reference,
    uniform: Candidate | None,
) -> tuple[Candidate, list[Entry]]:
    """The winner and the table of all candidates.

    The best of many owes some of its score to luck, and after a few steps of
    fine-tuning policies rank differently than after many (so in Distiller's
    AMC experiments). So the candidates are fine-tuned for longer and judged on
    held-out images. Where latency matters, it is now measured on the exported
    candidates, and one that keeps to a latency budget is preferred.
    """
    evaluator = searched.opened.evaluator
    candidates = find_candidates(searched.result.history, settings.finish.candidates, uniform)
    table = folder.read("rescored.json")
    if table is None:
        table = _rescore(settings, evaluator, candidates, reference)
        write_json(folder.path / "rescored.json", table)
    budget = searched.problem.budget
    share = None
    if budget is not None and budget.metric == "latency":
        share = budget.limit(reference.costs) / reference.costs["latency"]

    def merit(place: int) -> tuple[bool, float]:
        row = table[place]
        return share is None or row["latency_ratio"] <= share, row["held_out_reward"]

    return candidates[max(range(len(table)), key=merit)], table


def _rescore(
    settings: CompressSettings,
    evaluator: Evaluator,
    candidates: Sequence[Candidate],
    reference: Reference,
) -> list[Entry]:
    speeds = _measure(settings, evaluator, candidates)
    table = []
    steps = settings.finish.rescore_steps
    with stage("re-scoring candidates") as progress:
        for place, (candidate, speed) in enumerate(zip(candidates, speeds, strict=True)):
            held_out, finite = evaluator.score(candidate.policy, "held_out", steps)
            costs = dict(candidate.evaluation.costs)
            if speed is not None:
                costs["latency"] = speed * reference.costs["latency"]
            judged = Evaluation(held_out, costs, 0.0, not finite)
            table.append(
                {
                    "episode": candidate.episode,
                    "search_accuracy": candidate.evaluation.accuracy,
                    "held_out_accuracy": held_out,
                    "held_out_reward": reward_of(settings.reward or "", judged, reference),
                    "latency_ratio": speed,
                }
            )
            progress(place + 1, len(candidates))
    return table


def _measure(
    settings: CompressSettings, evaluator: Evaluator, candidates: Sequence[Candidate]
) -> list[float | None]:
    """Measured latency of every candidate over the base's; None where latency does not matter."""
    if not needs_latency(settings):
        return [None] * len(candidates)
    graph = evaluator.graph
    policies = [Policy.uniform(graph), *(candidate.policy for candidate in candidates)]
    with stage("measuring candidates"):
        base, *others = measure_policies(graph, policies, settings.finish.seconds / 2)
    return [latency_ratio(other, base).value for other in others]
