"""Who decides: agents that learn, searchers that do not, and rules that both have to beat.

``search`` is the one door. Torch, stable-baselines3 and Optuna are imported when an
agent that needs them is asked for, not before.
"""

import sys
from collections.abc import Callable
from typing import Any

import gymnasium

from agents.base import AGENTS, Agent, AgentError, Episode, Recorder, Scalars, SearchResult, best_of
from agents.rl.options import DDPGOptions, PPOOptions, SACOptions, TD3Options, TQCOptions
from agents.search.options import (
    CMAESOptions,
    EvolutionOptions,
    FrontOptions,
    GPOptions,
    GreedyOptions,
    SolverOptions,
    TPEOptions,
)

__all__ = [
    "AGENTS",
    "Agent",
    "AgentError",
    "CMAESOptions",
    "DDPGOptions",
    "Episode",
    "EvolutionOptions",
    "FrontOptions",
    "GPOptions",
    "GreedyOptions",
    "PPOOptions",
    "SACOptions",
    "SearchResult",
    "SolverOptions",
    "TD3Options",
    "TPEOptions",
    "TQCOptions",
    "load",
    "search",
    "search_environment",
]


def load(name: str) -> None:
    """Import what an agent needs, which its first search does else: some seconds.

    Raises:
      RegistryError: if there is none of this name.
    """
    _ = AGENTS[name].search
    torch = sys.modules.get("torch")
    if torch is not None:
        # PyTorch imports its compiler, which nothing here uses, with the first optimiser.
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def search(
    name: str,
    problem: Any,
    episodes: int,
    seed: int,
    on_episode: Callable[[Episode], object] | None = None,
    tensorboard: Scalars | None = None,
    options: Any = None,
) -> SearchResult:
    """Search for a policy of ``problem`` with exactly ``episodes`` evaluations.

    Args:
      name: one of ``AGENTS``.
      problem: what ``pfrl/Compression-v0`` is made of.
      episodes: number of episodes. The last one of the learning agents is played by
        the trained actor without exploration (phase ``final``).
      seed: same seed, same machine: the same search, bit for bit.
      on_episode: called once after every episode; what it raises (Ctrl-C too) ends the search.
      tensorboard: where an agent that learns writes its losses, step by episode, such as a
        ``torch.utils.tensorboard.SummaryWriter``.
      options: of the type ``AGENTS[name].options``; None takes the defaults.

    Returns:
      the best episode, the last one and all of them.

    Raises:
      RegistryError: if the agent is unknown.
      AgentError: if the options are another agent's, ``episodes`` is not above 0, or the problem
        has limits for every episode and the agent is for one.
    """
    import envs  # noqa: F401  (registers the environment)

    _check(name, episodes, options)
    several = getattr(problem, "limits", None) is not None
    if several and not AGENTS[name].every_limit:
        able = ", ".join(known for known in AGENTS if AGENTS[known].every_limit)
        raise AgentError(
            f"one search of {name} is for one limit; for several at once take one of {able}"
        )
    env = gymnasium.make("pfrl/Compression-v0", problem=problem)
    if several:
        env.reset(seed=seed)  # of the limits that episodes draw
    try:
        return search_environment(name, env, episodes, seed, on_episode, tensorboard, options)
    finally:
        env.close()


def search_environment(
    name: str,
    env: gymnasium.Env,
    episodes: int,
    seed: int,
    on_episode: Callable[[Episode], object] | None = None,
    tensorboard: Scalars | None = None,
    options: Any = None,
) -> SearchResult:
    """``search`` in an environment that is already made; arguments and errors are the same.

    Args:
      name: one of ``AGENTS``.
      env: has ``unwrapped.steps`` (steps of an episode), actions ``[K]`` in [-1, 1],
        ``info["executed_action"]`` ``[K]`` in every step, and ``policy`` and ``evaluation``
        in the last step's ``info``.
      episodes: number of episodes.
      seed: of the search.
      on_episode: called once after every episode.
      tensorboard: folder for the event file of an agent that learns.
      options: of the type ``AGENTS[name].options``; None takes the defaults.
    """
    _check(name, episodes, options)
    agent = AGENTS[name]
    if options is None and agent.options is not None:
        options = agent.options()
    recorder = Recorder(env, on_episode)
    agent.search(recorder, episodes, seed, options, tensorboard)
    best, last = best_of(recorder.history), recorder.history[-1]
    final = last if last.phase == "final" else best
    return SearchResult(best, final, recorder.history, recorder.trained, recorder.plan)


def _check(name: str, episodes: int, options: Any) -> None:
    expected = AGENTS[name].options
    if options is not None and (expected is None or not isinstance(options, expected)):
        takes = "takes no options" if expected is None else f"takes {expected.__name__}"
        raise AgentError(f"the agent {name} {takes}, got {type(options).__name__}")
    if episodes < 1:
        raise AgentError(f"a search needs at least 1 episode, got {episodes}")
