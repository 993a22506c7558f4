"""Steady-state evolution of whole policies (Real et al. 2019, arXiv 1802.01548).

Made for a hundred or two evaluations of 12 to 40 actions. What differs:

- Genes are continuous, so a mutation adds a normal deviate, and two parents
  may be crossed, each gene from either (uniform crossover).
- By default the worst policy is removed, not the oldest: (mu + 1) evolution.
  Ageing is against lucky evaluations, and rewards of one policy hardly differ.
- Genes are the executed actions, after the budget, so that a child differs
  from what its parents were and not from what was asked of them.
"""

import numpy as np

from agents.base import Recorder, Scalars
from agents.search.options import EvolutionOptions
from agents.search.proposals import Played, dimensions, play_vector


def search_evolution(
    env: Recorder, episodes: int, seed: int, options: EvolutionOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search``: a random population, then children; ``tensorboard`` is not used."""
    rng = np.random.default_rng(seed)
    size = dimensions(env)
    first = min(options.population, max(episodes // 4, 1))
    population = []
    for number in range(first):
        centre = number == 0 and options.start == "centre"
        vector = np.zeros(size) if centre else rng.uniform(-1, 1, size)
        population.append(play_vector(env, vector, "warmup"))
    for _ in range(episodes - first):
        population.append(play_vector(env, _child(population, options, rng)))
        if len(population) > options.population:
            population.pop(_removed(population, options))


def _child(
    population: list[Played], options: EvolutionOptions, rng: np.random.Generator
) -> np.ndarray:
    """A new vector ``[D]``."""
    genes = _parent(population, options, rng)
    if rng.random() < options.crossover:
        other = _parent(population, options, rng)
        genes = np.where(rng.random(genes.size) < 0.5, genes, other)
    return mutate(genes, options.mutation, options.sigma, rng)


def _parent(
    population: list[Played], options: EvolutionOptions, rng: np.random.Generator
) -> np.ndarray:
    """The best of a tournament."""
    drawn = rng.choice(len(population), min(options.tournament, len(population)), replace=False)
    return max((population[i] for i in drawn), key=lambda played: played.reward).executed


def mutate(genes: np.ndarray, share: float, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Normal deviates on a ``share`` of the genes ``[D]``, on one at least, reflected into [-1, 1].

    Clipping would pile mutants up at the ends.
    """
    mutated = rng.random(genes.size) < share
    if genes.size:
        mutated[rng.integers(genes.size)] = True
    moved = genes + rng.normal(0, sigma, genes.size)
    return np.where(mutated, 1 - np.abs((moved + 1) % 4 - 2), genes)


def _removed(population: list[Played], options: EvolutionOptions) -> int:
    """The place of the policy that dies; the population is in the order of birth."""
    if options.removal == "oldest":
        return 0
    return min(range(len(population)), key=lambda place: population[place].reward)
