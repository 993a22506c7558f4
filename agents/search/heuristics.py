"""Rules that decide all layers at once: where to prune, turned up and down by one strength.

A profile says by a weight w in [0, 1] how much a step is pruned. At strength t
its raw action (1: all is kept, -1: the least, in equal parts of the choices) is::

    1 - 2 w t                      for 0 ≤ t ≤ 1
    1 - 2 (w + (1 - w) (t - 1))    for 1 < t ≤ 2, where steps with w < 1 follow

"shallow" and "deep" are the rules of AMC's section 4.1 (He et al. 2018, arXiv
1802.03494); "log_params" is the protocol 'heuristic' of PocketFlow (Wu et al.
2018), whose pruning ratios are proportional to the logarithm of a layer's size.
"""

from collections.abc import Callable

import numpy as np

from agents.base import AgentError, Recorder, Scalars, Search
from agents.search.proposals import play_vector
from envs.decisions import Decisions
from pfrl.cost import largest_that_fits

STRENGTHS = np.linspace(0, 2, 2001)
"""Among which the smallest that meets the budget is looked for."""


def _profiled(profile: Callable[[int], np.ndarray], phase: str = "explore") -> Search:
    """A ``Search`` by a profile of so many decided steps; see ``_scan``."""

    def search(
        env: Recorder, episodes: int, seed: int, options: None, tensorboard: Scalars | None
    ) -> None:
        _scan(env, episodes, profile(len(_decided(env))), phase)

    return search


def search_log_params(
    env: Recorder, episodes: int, seed: int, options: None, tensorboard: Scalars | None
) -> None:
    """A ``Search`` that prunes large layers more; see ``_scan``.

    Raises:
      AgentError: if the environment has no layers.
    """
    decisions = _decisions(env)
    if decisions is None:
        raise AgentError("log_params needs an environment with layers, such as pfrl/Compression-v0")
    params = [decisions.steps[step][0].params for step in _decided(env)]
    _scan(env, episodes, log_params(params))


def shallow(steps: int) -> np.ndarray:
    """The profile ``[steps]`` that is 1 in the first half, with the middle step, else 0."""
    return (np.arange(steps) < steps / 2).astype(float)


search_uniform = _profiled(np.ones, "uniform")
search_shallow = _profiled(shallow)
search_deep = _profiled(lambda steps: shallow(steps)[::-1])


def log_params(params: list[int]) -> np.ndarray:
    """The profile ``log n / max log n`` of layers with kernels of ``n`` elements."""
    logs = np.log(params)
    return logs / max(logs.max(initial=0.0), 1e-12)


def raw_actions(profile: np.ndarray, strength: float) -> np.ndarray:
    """The raw actions of a profile, both ``[steps]``, at a strength in [0, 2]."""
    if strength <= 1:
        return 1 - 2 * profile * strength
    return 1 - 2 * (profile + (1 - profile) * (strength - 1))


def _scan(env: Recorder, episodes: int, profile: np.ndarray, phase: str = "explore") -> None:
    """The least strength that meets the budget (1/2 without one), then all of them in equal steps.

    Above the strength that the budget needs some of it stays unspent; below, the budget takes
    from the last layers. Neither a seed nor a TensorBoard folder is used.
    """
    decisions, strongest = _decisions(env), 1 if (profile == 1).all() else 2
    for strength in [_strength(env, decisions, profile), *np.linspace(0, strongest, episodes - 1)]:
        actions = _per_action(env, raw_actions(profile, strength))
        if decisions is not None:
            actions = _in_units_of_env(decisions, actions)
        play_vector(env, actions, phase)


def _strength(env: Recorder, decisions: Decisions | None, profile: np.ndarray) -> float:
    """The least strength of which the budget clips nothing; costs no evaluation."""
    if decisions is None or (limit := decisions.limit) is None:
        return 0.5

    def fits(strength: float) -> bool:
        return decisions.meets(_per_action(env, raw_actions(profile, strength)), limit)

    return largest_that_fits(STRENGTHS[::-1].tolist(), fits, monotone=decisions.monotone)


def _in_units_of_env(decisions: Decisions, raw: np.ndarray) -> np.ndarray:
    """The actions ``[D]`` that make the choices of raw actions."""
    pairs = zip(decisions.all(), raw, strict=True)
    return np.array([decisions.action_of(own, own.choice(action)) for (_, own), action in pairs])


def _decisions(env: Recorder) -> Decisions | None:
    return getattr(env.unwrapped, "decisions", None)


def _decided(env: Recorder) -> np.ndarray:
    """The numbers of the steps in which anything is decided."""
    return np.flatnonzero(env.live.any(axis=1))


def _per_action(env: Recorder, steps: np.ndarray) -> np.ndarray:
    """Of decided steps to ``[D]``: all that is decided in a step does the same."""
    return np.repeat(steps, env.live[_decided(env)].sum(axis=1))
