"""Batched environments: E policies of one problem are decided and evaluated side by side."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.compression import check_knobs
from envs.evaluations import Evaluations, usual_workers
from envs.knobs import KNOBS
from envs.problem import Problem, ProblemError
from envs.process import DecisionProcess


class CompressionVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """E episodes of ``pfrl/Compression-v0`` side by side.

    Each is what the single environment's is: the same action, observation and reward, with
    an axis ``E`` before the others. All episodes have ``L`` steps and end together, so the last
    step evaluates ``E`` policies at once; see ``envs.evaluations``.

    ## Action space, observation space
    ``Box(-1, 1, (E, K))`` and ``Box(-1, 1, (E, 17 + K + L·K))``.

    ## Infos
    ``executed_action`` float32 ``[E, K]`` in every step; after the last one ``policy`` and
    ``evaluation``, object arrays ``[E]``. Each with its mask, such as ``_policy`` ``[E]``.

    ## Episode end
    ``metadata["autoreset_mode"]`` is ``NEXT_STEP``: the step after the last takes no notice of
    its actions, begins all episodes anew and has rewards of 0 and no infos.

    ## Arguments
    ``problem`` and ``knobs``, as of the single environment; ``num_envs``, ``E``; ``workers``:
    processes that evaluate, by default one for every core, of which there are at most ``E``, and
    on a GPU or TPU one. With ``workers=1`` this process evaluates, as in the single environment;
    ``vmapped``: whether it evaluates all policies in one compiled function, by default on a GPU
    or TPU. Accuracies are then the single environment's but for a search image, or a few after
    fine-tuning, whose steps enlarge rounding.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        problem: Problem,
        num_envs: int = 1,
        workers: int | None = None,
        vmapped: bool | None = None,
        knobs: Sequence[str] = tuple(KNOBS),
    ):
        check_knobs(problem, knobs)
        if problem.limits is not None:
            raise ProblemError("episodes with limits of their own are played one by one")
        self.problem = problem
        self.num_envs = num_envs
        self._process = DecisionProcess(problem)
        self.decisions = self._process.decisions
        self.steps = self._process.steps
        self.live = self._process.live
        self.single_action_space: gymnasium.Space = self._process.action_space
        self.single_observation_space: gymnasium.Space = self._process.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        if workers is None:
            workers = 1 if vmapped else usual_workers(num_envs)
        self._evaluations = Evaluations(problem, workers, vmapped)
        self._begin()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._begin()
        return self._observations(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._drafts[0].complete:
            return self.reset()[0], np.zeros(self.num_envs), self._all(False), self._all(False), {}
        infos: list[dict[str, Any]] = [
            {"executed_action": draft.decide(action)}
            for draft, action in zip(self._drafts, actions, strict=True)
        ]
        rewards, ended = np.zeros(self.num_envs), self._drafts[0].complete
        if ended:
            policies = [draft.policy() for draft in self._drafts]
            for number, evaluation in enumerate(self._evaluations(policies)):
                rewards[number] = self._process.reward(evaluation)
                infos[number] |= {"evaluation": evaluation, "policy": policies[number]}
        return (
            self._observations(),
            rewards,
            self._all(ended),
            self._all(False),
            self._batched(infos),
        )

    def close_extras(self, **kwargs: Any) -> None:
        self._evaluations.close()

    def _begin(self) -> None:
        self._drafts = [self._process.begin() for _ in range(self.num_envs)]

    def _observations(self) -> np.ndarray:
        return np.stack([draft.observation() for draft in self._drafts])

    def _all(self, value: bool) -> np.ndarray:
        return np.full(self.num_envs, value)

    def _batched(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batched: dict[str, Any] = {}
        for number, info in enumerate(infos):
            batched = self._add_info(batched, info, number)
        return batched
