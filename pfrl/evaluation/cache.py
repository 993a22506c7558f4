"""Evaluations on disk, exact, by problem and policy: shared by agents, seeds and restarts."""

import dataclasses
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from pfrl.compression.kept import facts_of_code
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.cost import CostModel
from pfrl.evaluation.base import Evaluator, Wrapper
from pfrl.evaluation.config import EpisodeConfig, Evaluation
from pfrl.files import FileError
from pfrl.graph import Graph

SECONDS_TO_WAIT = 60.0
"""For another process that writes."""
NO_MATTER = ("validation", "early_stop")
"""Settings that change no exact evaluation; the runtime that was chosen is told apart."""


class Known(NamedTuple):
    """What the cache holds of an evaluation; costs are computed anew."""

    accuracy: float
    diverged: bool
    seconds: float


class EvaluationCache:
    """One file for any number of problems and processes (SQLite).

    An evaluation is a function of problem and policy alone: the images of its training and
    their order come from the problem's seed, the same ones for every policy. So nothing
    of a search (its number of the episode, its agent, its seed) is in the key.

    Args:
      path: the file; made if there is none.
      problem: digest of all that decides about an evaluation but the policy; see ``digest``.

    Raises:
      FileError: if the file is none of these, or cannot be written.
    """

    def __init__(self, path: Path, problem: str):
        self._path, self._problem = path, problem
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=SECONDS_TO_WAIT, isolation_level=None)
            # Readers go on while another process writes; a crash loses the last lines at most.
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS evaluations (problem TEXT, policy TEXT, accuracy REAL,"
                " diverged INTEGER, seconds REAL, PRIMARY KEY (problem, policy)) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise FileError(
                f"{path} cannot be used as a cache of evaluations ({error}); choose another place"
            ) from error

    def get(self, key: str) -> Known | None:
        """What is known of a policy, by ``policy_key``; None if nothing is."""
        query = "SELECT accuracy, diverged, seconds FROM evaluations WHERE problem=? AND policy=?"
        row = self._file.execute(query, (self._problem, key)).fetchone()
        return None if row is None else Known(row[0], bool(row[1]), row[2])

    def put(self, key: str, known: Known) -> None:
        """Keep an exact evaluation; one that is there already stays.

        Raises:
          FileError: if the disk is full.
        """
        values = (self._problem, key, known.accuracy, int(known.diverged), known.seconds)
        try:
            self._file.execute("INSERT OR IGNORE INTO evaluations VALUES (?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise FileError(
                f"cannot write {self._path}: {error}; free some space or choose another place"
            ) from error


class Cached(Wrapper):
    """Answers from a cache where it can, and keeps exact evaluations there.

    Args:
      inner: evaluates what is not in the cache.
      costs: of policies; a cache holds none.
      alone: evaluations that were made one by one.
      batch: those that were made in one batch, whose rounding is another.
    """

    def __init__(
        self, inner: Evaluator, costs: CostModel, alone: EvaluationCache, batch: EvaluationCache
    ):
        super().__init__(inner)
        self._costs, self._alone, self._batch, self._hits = costs, alone, batch, 0

    @property
    def hits(self) -> int:
        return self._hits + self.inner.hits

    def evaluate(self, policy: Policy) -> Evaluation:
        """Evaluate a policy.

        Raises:
          FileError: if the disk is full.
        """
        key = policy_key(policy, self.graph)
        found = self._known(self._alone, policy, key)
        if found is None:
            found = self.inner.evaluate(policy)
            self._keep(self._alone, key, found)
        return found

    def evaluate_batch(self, policies: Sequence[Policy]) -> list[Evaluation]:
        """Evaluate policies in one batch.

        Raises:
          FileError: if the disk is full.
        """
        keys = [policy_key(policy, self.graph) for policy in policies]
        known = [self._known(self._batch, *each) for each in zip(policies, keys, strict=True)]
        if None not in known:
            return [each for each in known if each is not None]
        # As many as were asked for, so that a hit does not compile for another number.
        one = policies[known.index(None)]
        asked = [p if each is None else one for p, each in zip(policies, known, strict=True)]
        found = self.inner.evaluate_batch(asked)
        for key, hit, new in zip(keys, known, found, strict=True):
            if hit is None:
                self._keep(self._batch, key, new)
        return [hit or new for hit, new in zip(known, found, strict=True)]

    def _known(self, cache: EvaluationCache, policy: Policy, key: str) -> Evaluation | None:
        known = cache.get(key)
        if known is None:
            return None
        self._hits += 1
        costs = self._costs.of(policy)
        images = self.images_each
        return Evaluation(known.accuracy, costs, known.seconds, known.diverged, images=images)

    def _keep(self, cache: EvaluationCache, key: str, found: Evaluation) -> None:
        if found.exact:
            cache.put(key, Known(found.accuracy, found.diverged, found.seconds))


def policy_key(policy: Policy, graph: Graph) -> str:
    """A key of a policy of ``graph``, the same for policies that make the same network."""
    zeros = {name: share for name, share in policy.sparsity.items() if share > 0}
    parts = [policy.counts(graph), dict(policy.weight_bits), dict(policy.act_bits), zeros]
    return json.dumps(parts, sort_keys=True, separators=(",", ":"))


def facts_of(graph: Graph, config: EpisodeConfig, recipe: Recipe) -> dict[str, Any]:
    """Plain data of a problem: its network, what is done to it, by which code and versions."""
    settings = dataclasses.asdict(config)
    for name in NO_MATTER:
        del settings[name]
    return {
        "config": settings,
        "recipe": recipe.to_json(),
        "groups": {name: group.size for name, group in graph.groups.items()},
        "versions": [jax.__version__, np.__version__],
        **facts_of_code(graph),
    }
