"""The agents that do not learn and what can be set of them; does not import Optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from agents.base import Agent, AgentError, Options
from agents.rl.options import FirstPolicy
from pfrl.bounds import Bounds, Count, Positive, Share
from pfrl.registry import register


@dataclass(frozen=True)
class EvolutionOptions(Options):
    """Steady-state evolution (arXiv 1802.01548); see ``agents.search.evolution``."""

    start: FirstPolicy = "centre"
    """The first policy: action 0 at every step, or random actions like the others."""
    population: Count = 10
    """Policies that are alive. As many are played at random before the first child, or a
    quarter of the episodes, if that is less."""
    tournament: Count = 5
    """Policies drawn from the population, of which the best becomes a parent."""
    removal: Literal["worst", "oldest"] = "worst"
    """Which policy a child replaces: the worst ((mu + 1) evolution) or the oldest (regularised
    evolution, for evaluations that are noisy)."""
    crossover: Share = 0.5
    """Probability that a child takes every action from either of two parents."""
    mutation: Share = 0.3
    """Probability that an action is mutated; at least one is."""
    sigma: Positive = 0.5
    """Standard deviation of a mutation, actions in [-1, 1]."""


@dataclass(frozen=True)
class GreedyOptions(Options):
    """Greedy coordinate moves (arXiv 1804.03230); see ``agents.search.greedy``."""

    start: FirstPolicy = "centre"
    """The first policy: action 0 at every step, or random actions."""
    tries: Count = 1
    """Moves of a round, of which the best is taken if it is a gain. All that there are, two for
    every action, make NetAdapt's rounds, and a short search few of them."""
    step: Positive = 0.8
    """Length of a move in the first round, actions in [-1, 1]."""
    shortest: Positive = 0.05
    """Below this length of a move the search starts again from random actions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step < self.shortest:
            raise AgentError(f"step is from shortest ({self.shortest}) on, got {self.step}")


@dataclass(frozen=True)
class SolverOptions(Options):
    """Sensitivity and an integer program (arXiv 2201.13096); see ``agents.search.solver``."""

    probes: Share = 0.4
    """Share of the episodes, at most, that measure decisions one by one."""
    share: Share = 0.3
    """Probability that a decision's factor is changed around the best solution."""
    sigma: Positive = 0.5
    """Standard deviation of the logarithm of a changed factor."""


@dataclass(frozen=True)
class OptunaOptions(Options):
    """What the samplers of Optuna have in common, in its names; see
    ``agents.search.optuna_searchers``."""

    start: FirstPolicy = "centre"
    """The first trial: action 0 at every step, or what the sampler draws."""
    n_startup_trials: Count = 10
    """Trials before the sampler's own choice, drawn at random but for the first."""


@dataclass(frozen=True)
class TPEOptions(OptunaOptions):
    """The tree-structured Parzen estimator, multivariate (Bergstra et al. 2011)."""

    n_ei_candidates: Count = 24
    """Draws from the density of the good trials, of which one becomes the next trial."""


@dataclass(frozen=True)
class GPOptions(OptunaOptions):
    """A Gaussian process with log expected improvement (arXiv 2310.20708)."""


@dataclass(frozen=True)
class CMAESOptions(OptunaOptions):
    """CMA-ES (Hansen 2016, arXiv 1604.00772)."""

    n_startup_trials: Count = 1
    """Trials before the first generation; its mean is action 0 whatever they yield."""
    sigma0: Positive = 0.4
    """First standard deviation, actions in [-1, 1]."""
    popsize: Annotated[int, Bounds(3)] | None = None
    """Trials of a generation; None takes 4 + 3 ln D of D actions."""


@dataclass(frozen=True)
class FrontOptions(Options):
    """Searches for a front of reward and cost, which one search finds for every limit."""

    start_uniform: Annotated[int, Bounds(2)] = 16
    """First trials: uniform policies, from the highest limit down. Of NSGA-II, the population."""


for _name, _agent in {
    "random": Agent("agents.search.random_search:search_random"),
    "evolution": Agent("agents.search.evolution:search_evolution", EvolutionOptions),
    "greedy": Agent("agents.search.greedy:search_greedy", GreedyOptions),
    "solver": Agent("agents.search.solver:search_solver", SolverOptions),
    "tpe": Agent("agents.search.optuna_searchers:search_tpe", TPEOptions),
    "gp": Agent("agents.search.optuna_searchers:search_gp", GPOptions),
    "cmaes": Agent("agents.search.optuna_searchers:search_cmaes", CMAESOptions),
    "nsga2": Agent("agents.search.optuna_searchers:search_nsga2", FrontOptions, every_limit=True),
    "motpe": Agent("agents.search.optuna_searchers:search_motpe", FrontOptions, every_limit=True),
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
