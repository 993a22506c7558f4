"""The search stage of a run: the agent plays, every episode is recorded and shown."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import SearchResult
from envs import NetworkTask, OpenedTask, Problem
from experiments.records.history import Line
from experiments.records.run_folder import VALIDATION, RunFolder, write_base
from experiments.run.inputs import agent_options, budget_of
from experiments.run.recorded import recorded_search
from experiments.settings.compression import CompressSettings
from experiments.watch.progress import SearchProgress, stage
from pfrl.evaluation.compilations import compilations


@dataclass(frozen=True)
class Searched:
    """What the search stage hands on."""

    result: SearchResult
    opened: OpenedTask
    problem: Problem
    facts: dict[str, Any]
    """The entry 'search' of the report, as far as it is known."""


def make_task(
    settings: CompressSettings, weights: Path, latency: Path | None, runtime: str | None = None
) -> NetworkTask:
    """The network, its data and its evaluations that the settings describe.

    Args:
      settings: resolved ones.
      weights: of the base network.
      latency: its latency table.
      runtime: which judges, as an earlier start of the run chose.
    """
    episode = settings.episode
    if runtime is not None:
        episode = dataclasses.replace(episode, validation=runtime)
    return NetworkTask(
        settings.network.model,
        settings.network.data,
        str(weights),
        settings.seed,
        episode=episode,
        recipe=settings.recipe,
        latency_table=None if latency is None else str(latency),
        **settings.space.opened(),
    )


def make_problem(settings: CompressSettings, task: NetworkTask) -> Problem:
    """The compression problem that resolved settings describe, of their task."""
    assert settings.reward is not None
    return Problem(
        task,
        budget=budget_of(settings),
        reward=settings.reward,
        latency_exponent=settings.latency_exponent,
        **settings.space.bounds(),
    )


def search(
    settings: CompressSettings, folder: RunFolder, problem: Problem, evaluations: int
) -> Searched:
    """Play all episodes; those that are recorded already are replayed without computing.

    Replaying asks the agent for the same decisions again, so that it goes on
    exactly as it would have.

    Args:
      settings: resolved ones.
      folder: of the run, begun.
      problem: of ``make_problem``.
      evaluations: number of episodes.

    Raises:
      ReplayError: if the recorded episodes are of another search.
      FileError: if the folder cannot be written to.
    """
    with stage("compiling"):
        opened = problem.open()
    write_base(folder, opened.costs.base, opened.base_accuracy)
    evaluator = opened.evaluator
    judge = folder.kept(VALIDATION, evaluator.choice._asdict)
    recorded = len(folder.recorded)
    budget = problem.budget
    metric = budget.metric if budget else "macs"
    limit = budget.limit(opened.costs.base) if budget else None
    lines: list[Line] = []
    first_compiled = None
    # The limits of --max-drop share an evaluator, and its clock goes on.
    before = dict(evaluator.seconds)
    start = time.perf_counter()
    with SearchProgress(evaluations, metric, limit, recorded) as progress:

        def show(line: Line, best: Line) -> None:
            nonlocal first_compiled
            lines.append(line)
            if line["episode"] >= recorded and first_compiled is None:
                first_compiled = compilations()
            progress.episode(line, best)

        result = recorded_search(
            settings.agent,
            problem,
            evaluations,
            settings.seed,
            folder.path / "history.jsonl",
            show,
            folder.path / "tb" / settings.agent / f"seed-{settings.seed}",
            agent_options(
                settings.agent, settings.portable, settings.agent_from, settings.parallel
            ),
        )
    seconds = sum(line["seconds"] for line in lines)
    elapsed = time.perf_counter() - start
    now = 0 if first_compiled is None else compilations() - first_compiled
    spent = {name: clocked - before.get(name, 0.0) for name, clocked in evaluator.seconds.items()}
    clock = spent if settings.parallel == 1 else {}
    facts = folder.kept(
        "search.json", lambda: _facts(clock, lines, seconds, elapsed, now, recorded)
    )
    facts |= {
        "judge": judge,
        "best_reward": result.best.reward,
        "final_actor": {
            "reward": result.final.reward,
            "accuracy": result.final.evaluation.accuracy,
            "exact": result.final.evaluation.exact,
        },
    }
    return Searched(result, opened, problem, facts)


def _facts(
    clock: dict[str, float],
    lines: list[Line],
    seconds: float,
    elapsed: float,
    compiled: int,
    recorded: int,
) -> dict[str, Any]:
    """Times and compilations of the search, by this start's clock and the recorded seconds.

    The first episode compiles and is left out of ``seconds_per_episode``. ``clock`` is what
    evaluations spent by part; empty, if they were made elsewhere and side by side.
    """
    later = [line["seconds"] for line in lines[1:]] or [seconds]
    facts: dict[str, Any] = {
        "seconds": elapsed + sum(line["seconds"] for line in lines[:recorded]),
        "seconds_per_episode": sum(later) / len(later),
        "images": sum(line.get("images", 0) for line in lines),
        "compilations_after_first_episode": compiled,
    }
    if recorded < len(lines) and clock:
        # Of this start: what was recorded before took no time now.
        shares = {name: spent / elapsed for name, spent in clock.items()}
        facts["share"] = {**shares, "other": 1 - sum(shares.values())}
    return facts
