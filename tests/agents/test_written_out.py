"""Updates that are written out, against those of stable-baselines3 one by one."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.logger import Logger

from agents import DDPGOptions, SACOptions, TD3Options
from agents.base import Recorder
from agents.rl.ddpg import AMCAgent
from agents.rl.sac import SACAgent
from agents.rl.td3 import TD3Agent
from tests.support.share_toy import STEPS, Toy

SMALL: dict[str, Any] = {"hidden": (16, 16), "batch": 8}
AGENTS: list[Any] = [
    (AMCAgent, DDPGOptions(**SMALL)),
    (AMCAgent, DDPGOptions(**SMALL, bound="tanh", share_reward=False, gamma=1.0)),
    (TD3Agent, TD3Options(**SMALL)),
    (TD3Agent, TD3Options(**SMALL, policy_delay=3)),
    (SACAgent, SACOptions(**SMALL)),
    (SACAgent, SACOptions(**SMALL, learn_entropy=True)),
]


def another(agent):
    """With networks of its own and the same memory."""
    copied = copy.copy(agent)
    copied.policy = copy.deepcopy(agent.policy)
    if getattr(agent, "log_ent_coef", None) is not None:
        copied.log_ent_coef = agent.log_ent_coef.detach().clone().requires_grad_(True)
        copied.ent_coef_optimizer = torch.optim.Adam([copied.log_ent_coef], lr=1e-3)
        copied.ent_coef_optimizer.load_state_dict(agent.ent_coef_optimizer.state_dict())
    copied._create_aliases()
    return copied


def parameters_of(agent) -> dict[str, np.ndarray]:
    """Of all its networks, and the logarithm of SAC's entropy weight if it is learned."""
    found = {name: p.detach().numpy().copy() for name, p in agent.policy.named_parameters()}
    if isinstance(agent, SAC) and agent.log_ent_coef is not None:
        found["log_ent_coef"] = agent.log_ent_coef.detach().numpy().copy()
    return found


@pytest.mark.parametrize("kind, options", AGENTS)
def test_updates_are_those_of_stable_baselines3(kind, options):
    recorder = Recorder(Toy())
    ours: Any = kind(recorder, recorder, options, 5, seed=0)
    ours.set_logger(Logger(None, []))
    ours.learn(5 * STEPS)
    plain: Any = SAC if isinstance(ours, SAC) else TD3
    # TD3's draw other noise on the actions of targets, so there is none.
    vars(ours)["target_noise_clip"] = 0.0
    theirs = another(ours)
    before = parameters_of(ours)
    assert ("log_ent_coef" in before) == getattr(options, "learn_entropy", False)
    for updates in (7, 5):
        for agent, train in ((ours, type(ours).train), (theirs, plain.train)):
            np.random.seed(updates)
            torch.manual_seed(updates)
            train(agent, updates, options.batch)
        assert ours._n_updates == theirs._n_updates
        found, expected = parameters_of(ours), parameters_of(theirs)
        assert found.keys() == expected.keys() == before.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=2e-5, err_msg=name)
    moved = {name: float(np.abs(value - before[name]).max()) for name, value in found.items()}
    # The biases of layers that decide nothing yet may rest; the rest moves by its learning rate.
    assert np.median(list(moved.values())) > 1e-3
    assert moved.get("log_ent_coef", 1.0) > 1e-3


@pytest.mark.parametrize(
    "kind, options", [(TD3Agent, TD3Options(**SMALL)), (SACAgent, SACOptions(**SMALL))]
)
def test_the_losses_are_logged_and_the_noise_comes_from_torch(kind, options):
    recorder = Recorder(Toy())
    found = []
    for _ in range(2):
        agent = kind(recorder, recorder, options, 5, seed=0)
        agent.set_logger(Logger(None, []))
        agent.learn(5 * STEPS)
        np.random.seed(0)
        torch.manual_seed(0)
        agent.train(6, 8)
        logged = agent.logger.name_to_value
        assert logged["train/n_updates"] == agent._n_updates
        losses = ["actor_loss", "critic_loss"]
        losses += ["ent_coef", "ent_coef_loss"] if isinstance(agent, SAC) else []
        assert np.isfinite([logged[f"train/{name}"] for name in losses]).all()
        found.append(float(next(agent.critic.parameters()).detach().sum()))
    assert found[0] == found[1]
