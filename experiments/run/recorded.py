"""A search whose episodes are on disk as soon as they end; started again, it goes on from there."""

from pathlib import Path

import agents
from agents import Episode
from envs import Problem
from experiments.records.history import Line, read_history
from experiments.records.lines import append_line, mend_lines
from pfrl.evaluation.config import Evaluation


def recorded_search(
    agent: str,
    problem: Problem,
    episodes: int,
    seed: int,
    history: Path,
) -> list[Line]:
    """All lines of a search, of which ``history`` may hold the first ones.

    The agent decides everything again, and so ends with what it would have ended with; what
    is recorded is not evaluated again.

    Args:
      agent, problem, episodes, seed: as of ``agents.search``.
      history: a ``history.jsonl``.

    Raises:
      RecordError: if the records are of another search.
      FileError: if the file is damaged or cannot be written.
    """
    recorded = mend_lines(history)
    problem.open().evaluator.resume((line["policy"], evaluation_of(line)) for line in recorded)

    def record(episode: Episode) -> None:
        if episode.index >= len(recorded):
            append_line(history, episode.to_json())

    agents.search(agent, problem, episodes, seed, record)
    return read_history(history)


def evaluation_of(line: Line) -> Evaluation:
    """What a line of a history says of the episode's policy."""
    exact = line.get("exact", True)
    return Evaluation(
        line["accuracy"], dict(line["costs"]), line["seconds"], line["diverged"], exact
    )
