"""Screening where every episode has a limit of its own: what one limit taught, all others know.

What a policy yields does not depend on the limit that it was played under. So the model of the
reward compares policies by their raw actions, which mean the same choices at every limit, and the
best episodes for a limit are those whose actions, carried over to it, promise most: an action
counts from the uniform policy of its limit, so that a good deviation from one stays one.
"""

from typing import Any

import numpy as np

from agents.base import Recorder
from agents.rl.options import OffPolicyOptions
from agents.rl.screening.candidates import ELITES, Screen, dry_run_of
from agents.rl.screening.surrogate import RewardModel, predict
from envs.decisions import Decisions
from envs.projection import canonicalize, project

PLANNED = 512
"""Changes of the best that are weighed where a policy is asked for without an evaluation."""


class EveryLimit(Screen):
    """See the head of this file; ``dry_run`` is a ``CompressionEnv`` whose episodes draw limits."""

    _decisions: Decisions

    def begin(self) -> None:
        # The library begins the next episode before it tells of the one that ended.
        env: Any = self.dry_run
        self._decisions = env.decisions

    def _projected(self, asked: np.ndarray) -> np.ndarray:
        return project(self._decisions, asked)

    def _canonical(self, executed: np.ndarray) -> np.ndarray:
        return canonicalize(self._decisions, executed)

    def _comparable(self, canonical: np.ndarray) -> np.ndarray:
        return np.where(self._live, self._decisions.raw(canonical), 0).astype(np.float32)

    def _best(self, model: RewardModel) -> np.ndarray:
        here = self._comparable(self._canonical(self._projected(np.stack(self._networks))))
        mean, _ = predict(model, here[:, self._live])
        return np.argsort(mean)[::-1][:ELITES]

    def plan(self, decisions: Decisions, asked: np.ndarray) -> np.ndarray:
        """The episode ``[L, K]`` that promises most under a limit, without an evaluation.

        Of what the actor plays there, what was good at other limits, and changes of that.

        Args:
          decisions: under the limit.
          asked: the actor's actions ``[L, K]``.
        """
        self._decisions, self._rng = decisions, np.random.default_rng(0)
        model = self._fitted()
        best = self._best(model)
        found = np.concatenate(
            [asked[None], np.stack(self._networks)[best], self._around(best, PLANNED)]
        )
        networks = self._comparable(self._canonical(self._projected(found)))
        mean, _ = predict(model, networks[:, self._live])
        return found[int(np.argmax(mean))]


def screen_of(
    recorder: Recorder, options: OffPolicyOptions, rng: np.random.Generator
) -> Screen | None:
    """The screen for an environment; None if it cannot tell what an episode would execute."""
    dry_run = dry_run_of(recorder)
    if dry_run is None:
        return None
    every = getattr(recorder.unwrapped, "limits", None) is not None
    return (EveryLimit if every else Screen)(dry_run, recorder.live, options, rng)
