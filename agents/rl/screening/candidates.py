"""Which of several candidate episodes is played: those that a model of the reward promises most of.

Candidates are drawn around what an actor would do and around the best episodes so far. What
the budget makes of them, and which network that is, is known without an evaluation; of the
networks that were not played yet the one with the highest upper confidence bound is chosen.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from agents.base import Recorder
from agents.rl.options import OffPolicyOptions
from agents.rl.screening.surrogate import RewardModel, fit, predict

ELITES = 5
"""Episodes that count as the best."""
ELITE_SIGMAS = (0.05, 0.5)
"""Standard deviations of changes to them, of which every candidate has its own."""


def truncated_normal(
    mean: np.ndarray, sigma: float | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Samples within [-1, 1] of normal distributions around ``mean`` (any shape, in there too).

    By inversion: ``mean + sigma · Phi⁻¹(u)`` with u uniform between
    ``Phi((-1 - mean) / sigma)`` and ``Phi((1 - mean) / sigma)``.
    """
    if np.all(sigma == 0):
        return mean
    u = rng.uniform(ndtr((-1 - mean) / sigma), ndtr((1 - mean) / sigma))
    return np.clip(mean + sigma * ndtri(u), -1, 1)


class DryRun(Protocol):
    """An environment that tells what would be executed, without an evaluation."""

    def rollout(self, act: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Of an episode of ``act``: the actions ``[L, K]`` that it executes."""
        ...

    def project(self, actions: np.ndarray) -> np.ndarray:
        """Of episodes of the actions ``[B, L, K]``, what they execute, of the same shape."""
        ...

    def canonicalize(self, executed: np.ndarray) -> np.ndarray:
        """Of executed actions ``[B, L, K]``, those that are equal where the network is the same."""
        ...


def dry_run_of(recorder: Recorder) -> DryRun | None:
    """The environment, if it can play dry."""
    env: Any = recorder.unwrapped
    return (
        env if all(hasattr(env, name) for name in ("rollout", "project", "canonicalize")) else None
    )


class Screen:
    """What is known of the episodes so far, and the choice of the next one.

    Args:
      dry_run: the environment.
      live: bool ``[L, K]``, which actions decide something.
      options: ``screen``, ``elite`` and ``kappa`` of them.
      rng: of the changes to the best episodes.
    """

    def __init__(
        self,
        dry_run: DryRun,
        live: np.ndarray,
        options: OffPolicyOptions,
        rng: np.random.Generator,
    ):
        self.dry_run = dry_run
        self._live, self._options, self._rng = live, options, rng
        self._networks: list[np.ndarray] = []
        self._known: list[np.ndarray] = []
        self._rewards: list[float] = []

    @property
    def count(self) -> int:
        """Candidates of the next episode; two episodes are the fewest that differ in rewards."""
        return self._options.screen if len(self._rewards) > 1 else 1

    def begin(self) -> None:
        """Told when an episode begins, before ``choose``."""

    def add(self, executed: np.ndarray, reward: float) -> None:
        """Learn of an episode that was played: executed actions ``[L, K]``, and its reward."""
        network = self._canonical(executed[None])
        self._networks.append(network[0])
        self._known.append(self._comparable(network)[0])
        self._rewards.append(reward)

    def choose(self, asked: np.ndarray) -> np.ndarray:
        """Of ``count`` episodes ``[count, L, K]``, some of which give way to others, one.

        One whose network was played before is chosen only if all were.
        """
        if len(asked) == 1:
            return asked[0]
        model = self._fitted()
        around = round(self._options.elite * len(asked))
        asked[:around] = self._around(self._best(model), around)
        networks = self._comparable(self._canonical(self._projected(asked)))
        played = {network.tobytes() for network in self._known}
        mean, deviation = predict(model, networks[:, self._live])
        promise = mean + self._options.kappa * deviation
        unplayed = np.array([network.tobytes() not in played for network in networks])
        if unplayed.any():
            promise[~unplayed] = -np.inf
        return asked[int(np.argmax(promise))]

    def _fitted(self) -> RewardModel:
        return fit(np.stack(self._known)[:, self._live], np.array(self._rewards))

    def _projected(self, asked: np.ndarray) -> np.ndarray:
        return self.dry_run.project(asked)

    def _canonical(self, executed: np.ndarray) -> np.ndarray:
        return self.dry_run.canonicalize(executed)

    def _comparable(self, canonical: np.ndarray) -> np.ndarray:
        """Canonical actions ``[B, L, K]`` as the model compares them with those of before."""
        return canonical

    def _best(self, model: RewardModel) -> np.ndarray:
        """The best episodes so far, the best one first: their places.

        The actor forgets what it does not play any more; the memory of the best does not.
        """
        return np.argsort(self._rewards)[::-1][:ELITES]

    def _around(self, best: np.ndarray, count: int) -> np.ndarray:
        """Candidates ``[count, L, K]``: one of the best episodes, changed a little or more."""
        chosen = np.stack(self._networks)[self._rng.choice(best, count)]
        low, high = np.log(ELITE_SIGMAS)
        sigma = np.exp(self._rng.uniform(low, high, (count, 1, 1)))
        changed = self._rng.random(chosen.shape) < self._rng.uniform(0, 1, (count, 1, 1))
        noise = truncated_normal(chosen, sigma, self._rng)
        return np.where(changed, noise, chosen).astype(np.float32)
