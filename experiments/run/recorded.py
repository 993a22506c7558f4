"""A search whose episodes are on disk as soon as they end; started again, it goes on from there."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import agents
from agents import Episode, SearchResult
from envs import NetworkTask, Problem
from experiments.records.history import Line, is_whole
from experiments.records.lines import append_line, mend_lines
from experiments.records.run_folder import AGENT_FILE
from experiments.watch.board import About, Board
from experiments.watch.runs import tell_share
from pfrl.evaluation.config import Evaluation


def recorded_search(
    agent: str,
    problem: Problem,
    episodes: int,
    seed: int,
    history: Path,
    show: Callable[[Line, Line], object] = lambda line, best: None,
    tensorboard: Path | None = None,
    options: Any = None,
) -> SearchResult:
    """A whole search, of whose episodes ``history`` may hold the first ones.

    The agent decides everything again, and so ends with what it would have ended with; what
    is recorded is not evaluated again.

    Args:
      agent, problem, episodes, seed, options: as of ``agents.search``.
      history: a ``history.jsonl``.
      show: told ``(line, best)``, every episode and the one with the highest reward so far.
      tensorboard: folder of the event file, which holds the search and what the agent writes
        besides. What is spent on it is 'watching' on the evaluator's clock.

    Raises:
      RecordError: if the records are of another search.
      FileError: if the file is damaged or cannot be written.
    """
    recorded = mend_lines(history)
    evaluator = problem.open().evaluator
    evaluator.resume((line["policy"], evaluation_of(line)) for line in recorded)
    clock, before = evaluator.seconds, evaluator.seconds.get("watching", 0.0)
    best: Line | None = None

    def on_episode(episode: Episode) -> None:
        nonlocal best
        line = episode.to_json()
        if is_whole(line) and (best is None or line["reward"] > best["reward"]):
            best = line
        if episode.index >= len(recorded):
            append_line(history, line)
        if board is not None:
            board.episode(line, line if best is None else best)
            clock["watching"] = before + board.seconds
        show(line, line if best is None else best)
        tell_share(episode.index + 1, episodes)

    with ExitStack() as stack:
        board = None
        if tensorboard is not None:
            about = about_search(agent, problem, episodes, seed)
            board = stack.enter_context(closing(Board(tensorboard, len(recorded), about=about)))
        result = agents.search(agent, problem, episodes, seed, on_episode, board, options)
    if result.trained is not None:
        result.trained.save(history.parent / AGENT_FILE)
    return result


def about_search(agent: str, problem: Problem, episodes: int, seed: int) -> About:
    """What those who watch a search are told of it."""
    task, budget, opened = problem.task, problem.budget, problem.open()
    costs = opened.costs
    settings: dict[str, str | float] = {
        "agent": agent,
        "budget": f"{budget.metric}={budget.value:g}" if budget else "none",
        "seed": seed,
        "episodes": episodes,
        "reward": problem.reward,
        "knobs": " ".join(problem.knobs),
    }
    if isinstance(task, NetworkTask):
        fidelity = task.suited(opened.graph).fidelity
        settings |= {"model": task.model, "data": task.data, "fidelity": fidelity}
    if budget is None:
        return About(settings)
    return About(settings, budget.metric, budget.limit(costs.base), costs.base.get(budget.metric))


def evaluation_of(line: Line) -> Evaluation:
    """What a line of a history says of the episode's policy."""
    exact, images = line.get("exact", True), line.get("images", 0)
    return Evaluation(
        line["accuracy"], dict(line["costs"]), line["seconds"], line["diverged"], exact, images
    )
