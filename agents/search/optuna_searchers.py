"""Optuna's samplers as searchers (Akiba et al. 2019, arXiv 1907.10902), by ask and tell.

A sampler is told the reward of the actions that it asked for, not of the
executed ones: CMA-ES needs its own draws, and a model that is told only what the
budget lets happen would go on asking for what is clipped to the same policy.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, TPESampler

from agents.base import AgentError, Recorder, Scalars
from agents.search.options import CMAESOptions, FrontOptions, GPOptions, OptunaOptions, TPEOptions
from agents.search.proposals import dimensions, play_vector


def search_tpe(
    env: Recorder, episodes: int, seed: int, options: TPEOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search``: the multivariate tree-structured Parzen estimator.

    Bergstra et al. 2011, "Algorithms for hyper-parameter optimization"; Falkner et al. 2018
    (arXiv 1807.01774) for the joint densities. ``tensorboard`` is not used.
    """
    _search(env, episodes, options, lambda: TPESampler(
        n_startup_trials=options.n_startup_trials,
        n_ei_candidates=options.n_ei_candidates,
        multivariate=True,
        seed=seed,
    ))  # fmt: skip


def search_gp(
    env: Recorder, episodes: int, seed: int, options: GPOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search``: a Gaussian process (Matérn 5/2, a length scale for every action).

    The next trial is where the logarithm of the expected improvement is highest (Ament et al.
    2023, arXiv 2310.20708). ``tensorboard`` is not used.
    """
    _search(env, episodes, options, lambda: GPSampler(
        n_startup_trials=options.n_startup_trials,
        seed=seed,
    ))  # fmt: skip


def search_cmaes(
    env: Recorder, episodes: int, seed: int, options: CMAESOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search``: CMA-ES (Hansen 2016, arXiv 1604.00772); ``tensorboard`` is not used.

    Its first mean is action 0 everywhere, whatever ``options.start``.
    """
    _search(env, episodes, options, lambda: CmaEsSampler(
        x0=dict.fromkeys(_names(env), 0.0),
        # In units of the range of an action, which is 2 long.
        sigma0=options.sigma0 / 2,
        n_startup_trials=options.n_startup_trials,
        popsize=options.popsize,
        seed=seed,
    ))  # fmt: skip


def search_nsga2(
    env: Recorder, episodes: int, seed: int, options: FrontOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search`` for a front of reward and cost: NSGA-II (Deb et al. 2002).

    ``tensorboard`` is not used.
    """
    _search_front(env, episodes, options, NSGAIISampler(
        population_size=options.start_uniform,
        seed=seed,
    ))  # fmt: skip


def search_motpe(
    env: Recorder, episodes: int, seed: int, options: FrontOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search`` for a front of reward and cost: the tree-structured Parzen estimator of several
    objectives (Ozaki et al. 2022, multivariate). ``tensorboard`` is not used.
    """
    _search_front(env, episodes, options, TPESampler(
        n_startup_trials=options.start_uniform,
        multivariate=True,
        seed=seed,
    ))  # fmt: skip


def _search_front(
    env: Recorder, episodes: int, options: FrontOptions, sampler: BaseSampler
) -> None:
    """One study of the reward and the cost in the budget's metric.

    Of a problem with limits all episodes are played under the highest one, which leaves every
    policy that any of them does. The first ones are the uniform policies from there down to the
    lowest choices.
    """
    names = _names(env)
    space: dict[str, BaseDistribution] = {name: FloatDistribution(-1, 1) for name in names}
    decisions = getattr(env.unwrapped, "decisions", None)
    if decisions is None:
        raise AgentError("a search for a front needs an environment of pfrl, which knows costs")
    limits = getattr(env.unwrapped, "limits", None)
    highest = None if limits is None else {"limit": max(limits) / decisions.base}
    with _quiet():
        study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])
        for action in np.linspace(0, -1, options.start_uniform):
            study.enqueue_trial(dict.fromkeys(names, float(action)))
    for number in range(episodes):
        with _quiet():
            trial = study.ask(space)
        vector = np.array([trial.params[name] for name in names])
        phase = "warmup" if number < options.start_uniform else "explore"
        reward = play_vector(env, vector, phase, highest).reward
        with _quiet():
            cost = env.history[-1].evaluation.costs[decisions.metric] / decisions.base
            study.tell(trial, [reward, cost])


def _search(
    env: Recorder, episodes: int, options: OptunaOptions, make: Callable[[], BaseSampler]
) -> None:
    """One study, in memory."""
    names = _names(env)
    space: dict[str, BaseDistribution] = {name: FloatDistribution(-1, 1) for name in names}
    with _quiet():
        study = optuna.create_study(sampler=make(), direction="maximize")
        if options.start == "centre":
            study.enqueue_trial(dict.fromkeys(names, 0.0))
    for number in range(episodes):
        with _quiet():
            trial = study.ask(space)
        vector = np.array([trial.params[name] for name in names])
        phase = "warmup" if number < options.n_startup_trials else "explore"
        reward = play_vector(env, vector, phase).reward
        with _quiet():
            study.tell(trial, reward)


def _names(env: Recorder) -> list[str]:
    """Of the actions, in an order that sorting does not change: samplers sort them."""
    return [f"action{place:04}" for place in range(dimensions(env))]


@contextmanager
def _quiet() -> Iterator[None]:
    """No word from Optuna: of its own studies, of what is experimental, of what goes in 6.0."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
