"""The episodes of a search as they stand in ``history.jsonl``: which are good, and how good."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.base import PROBE
from experiments.records.wording import is_number
from pfrl.files import FileError

Line = Mapping[str, Any]
"""One line of ``history.jsonl``; see ``agents.base.Episode.to_json``."""


def is_sound(line: Line) -> bool:
    """Whether the episode's training ended with numbers."""
    return not line["diverged"] and is_number(line["accuracy"]) and is_number(line["reward"])


def is_whole(line: Line) -> bool:
    """Whether the episode is sound, its accuracy no estimate from some of the images, and its
    policy one that the budget holds for."""
    return is_sound(line) and line.get("exact", True) and line["phase"] != PROBE


def best_so_far(history: Sequence[Line]) -> list[int | None]:
    """For each episode, the position of the highest reward up to it; None before the first.

    Of equal rewards the earliest counts; diverged episodes and estimates never do.
    """
    best: int | None = None
    positions = []
    for position, line in enumerate(history):
        if is_whole(line) and (best is None or line["reward"] > history[best]["reward"]):
            best = position
        positions.append(best)
    return positions


def chosen_position(history: Sequence[Line], policy: Mapping[str, Any] | None) -> int | None:
    """The position of the episode that ``policy`` comes from: the first sound one that equals it.

    None where there is no such episode; where no policy is known, the one with the highest reward.
    """
    if policy is None:
        return best_so_far(history)[-1] if history else None
    for position, line in enumerate(history):
        if is_sound(line) and line["policy"] == policy:
            return position
    return None


def pareto_front(history: Sequence[Line], metric: str) -> list[int]:
    """Positions of the sound episodes that no other beats in cost and accuracy, cheapest first."""
    sound = [
        position
        for position, line in enumerate(history)
        if is_sound(line) and line["phase"] != PROBE
    ]
    costs = [history[position]["costs"][metric] for position in sound]
    merits = [(-cost, history[p]["accuracy"]) for p, cost in zip(sound, costs, strict=True)]
    return [sound[place] for place in sorted(unbeaten(merits), key=lambda place: costs[place])]


def unbeaten(merits: Sequence[Sequence[float]]) -> list[int]:
    """Positions of the Pareto front of ``merits`` ``[N, K]``, in which more is better.

    One beats another if it is nowhere worse and somewhere better; of equal ones the first stays.
    """
    every = np.asarray(merits, float)

    def stays(place: int) -> bool:
        as_good = (every >= every[place]).all(1)
        better = (every > every[place]).any(1)
        return not (as_good & better).any() and not as_good[:place].any()

    return [place for place in range(len(every)) if stays(place)]


def read_history(path: Path) -> list[Line]:
    """The episodes of a ``history.jsonl``; none if there is no file.

    A last line without its end is what a kill leaves behind, and is skipped.

    Raises:
      FileError: if another line is no JSON.
    """
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text().split("\n")[:-1], 1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise FileError(
                f"{path}, line {number}, is damaged ({error}); run the search again"
            ) from error
    return lines
