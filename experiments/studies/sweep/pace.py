"""How long a search of a sweep will take, before any is done."""

import time
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from agents import AGENTS
from envs import NetworkTask
from experiments.studies.study import task_of
from experiments.studies.sweep.settings import SweepSettings
from pfrl.compression.policy import Policy
from pfrl.evaluation.base import Tuning
from pfrl.evaluation.short_training import TELL_EVERY

LOOKS = 2
"""At a fine-tuning, so many steps apart as it tells; the first one comes after it is compiled."""


class Pace(NamedTuple):
    """Seconds of an evaluation, the images it looks at, and seconds of a fine-tuning's step."""

    evaluation: float
    images: int
    step: float


def seconds_of(settings: SweepSettings, weights: str, agent: str) -> float:
    """Of a search and the fine-tuning of its best policy, about, by a few evaluations and steps.

    Nothing is written.

    Args:
      settings: resolved ones of the sweep.
      weights: path of the base network's.
      agent: name of who searches.
    """
    pace = _pace(replace(task_of(settings, weights), cache=None), settings.learning_rate)
    evaluations = settings.length.evaluations(pace.images)
    steps = settings.tuning_images / settings.episode.batch
    return pace.evaluation * (1 if AGENTS[agent].rule else evaluations) + pace.step * steps


@lru_cache(maxsize=1)
def _pace(task: NetworkTask, learning_rate: float) -> Pace:
    evaluator = task.open().evaluator
    policies = [Policy.uniform(evaluator.graph, keep=keep) for keep in (0.75, 0.5)]
    start = 0.0
    for policy in policies:
        start = time.perf_counter()
        evaluator.evaluate(policy)  # the first one compiles
    evaluation = time.perf_counter() - start
    told: list[float] = []
    images = LOOKS * TELL_EVERY * task.episode.batch
    tuning = Tuning(images, learning_rate, 0, lambda *_: told.append(time.perf_counter()))
    evaluator.network(policies[-1], tuning)
    return Pace(evaluation, evaluator.images_each, (told[-1] - told[0]) / (LOOKS - 1) / TELL_EVERY)
