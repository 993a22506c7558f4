"""The agents that do not learn and what can be set of them; does not import Optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agents.base import Agent, AgentError
from agents.rl.options import Start
from pfrl.registry import register


@dataclass(frozen=True)
class EvolutionOptions:
    """Steady-state evolution (arXiv 1802.01548); see ``agents.search.evolution``."""

    start: Start = "centre"
    """The first policy: action 0 at every step, or random actions like the others."""
    population: int = 10
    """Policies that are alive. As many are played at random before the first child, or a
    quarter of the episodes, if that is less."""
    tournament: int = 5
    """Policies drawn from the population, of which the best becomes a parent."""
    removal: Literal["worst", "oldest"] = "worst"
    """Which policy a child replaces: the worst ((mu + 1) evolution) or the oldest (regularised
    evolution, for evaluations that are noisy)."""
    crossover: float = 0.5
    """Probability that a child takes every action from either of two parents."""
    mutation: float = 0.3
    """Probability that an action is mutated; at least one is."""
    sigma: float = 0.5
    """Standard deviation of a mutation, actions in [-1, 1]."""

    def __post_init__(self) -> None:
        _check_start(self.start)
        _check(self, "removal", self.removal in ("worst", "oldest"), "'worst' or 'oldest'")
        for name in ("population", "tournament"):
            _check(self, name, getattr(self, name) >= 1, "a whole number from 1")
        for name in ("crossover", "mutation"):
            _check(self, name, 0 <= getattr(self, name) <= 1, "a value from 0 to 1")
        _check(self, "sigma", self.sigma > 0, "a value above 0")


@dataclass(frozen=True)
class GreedyOptions:
    """Greedy coordinate moves (arXiv 1804.03230); see ``agents.search.greedy``."""

    start: Start = "centre"
    """The first policy: action 0 at every step, or random actions."""
    tries: int = 1
    """Moves of a round, of which the best is taken if it is a gain. All that there are, two for
    every action, make NetAdapt's rounds, and a short search few of them."""
    step: float = 0.8
    """Length of a move in the first round, actions in [-1, 1]."""
    shortest: float = 0.05
    """Below this length of a move the search starts again from random actions."""

    def __post_init__(self) -> None:
        _check_start(self.start)
        _check(self, "tries", self.tries >= 1, "a whole number from 1")
        _check(self, "shortest", self.shortest > 0, "a value above 0")
        _check(self, "step", self.step >= self.shortest, "a value from shortest on")


@dataclass(frozen=True)
class OptunaOptions:
    """What the samplers of Optuna have in common, in its names; see
    ``agents.search.optuna_searchers``."""

    start: Start = "centre"
    """The first trial: action 0 at every step, or what the sampler draws."""
    n_startup_trials: int = 10
    """Trials before the sampler's own choice, drawn at random but for the first."""

    def __post_init__(self) -> None:
        _check_start(self.start)
        _check(self, "n_startup_trials", self.n_startup_trials >= 1, "a whole number from 1")


@dataclass(frozen=True)
class TPEOptions(OptunaOptions):
    """The tree-structured Parzen estimator, multivariate (Bergstra et al. 2011)."""

    n_ei_candidates: int = 24
    """Draws from the density of the good trials, of which one becomes the next trial."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "n_ei_candidates", self.n_ei_candidates >= 1, "a whole number from 1")


@dataclass(frozen=True)
class GPOptions(OptunaOptions):
    """A Gaussian process with log expected improvement (arXiv 2310.20708)."""


@dataclass(frozen=True)
class CMAESOptions(OptunaOptions):
    """CMA-ES (Hansen 2016, arXiv 1604.00772)."""

    n_startup_trials: int = 1
    """Trials before the first generation; its mean is action 0 whatever they yield."""
    sigma0: float = 0.4
    """First standard deviation, actions in [-1, 1]."""
    popsize: int | None = None
    """Trials of a generation; None takes 4 + 3 ln D of D actions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "sigma0", self.sigma0 > 0, "a value above 0")
        enough = self.popsize is None or self.popsize > 2
        _check(self, "popsize", enough, "None or a whole number from 3")


def _check_start(start: str) -> None:
    if start not in ("centre", "random"):
        raise AgentError(f"start is {start!r}; choose 'centre' or 'random'")


def _check(options: Any, name: str, good: bool, wanted: str) -> None:
    if not good:
        raise AgentError(f"{name} is {getattr(options, name)!r}; choose {wanted}")


for _name, _agent in {
    "random": Agent("agents.search.random_search:search_random"),
    "evolution": Agent("agents.search.evolution:search_evolution", EvolutionOptions),
    "greedy": Agent("agents.search.greedy:search_greedy", GreedyOptions),
    "tpe": Agent("agents.search.optuna_searchers:search_tpe", TPEOptions),
    "gp": Agent("agents.search.optuna_searchers:search_gp", GPOptions),
    "cmaes": Agent("agents.search.optuna_searchers:search_cmaes", CMAESOptions),
    "exhaustive": Agent("agents.search.exhaustive:search_exhaustive"),
}.items():
    register("agent", _name, _agent)
for _name, _rule in {
    "uniform": "prunes all layers alike",
    "shallow": "prunes the first half of the layers",
    "deep": "prunes the last half of the layers",
    "log_params": "prunes large layers more",
}.items():
    register("agent", _name, Agent(f"agents.search.heuristics:search_{_name}", rule=_rule))
