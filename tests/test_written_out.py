"""Updates that are written out, against those of stable-baselines3 one by one."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.logger import Logger

from agents import DDPGOptions, TD3Options
from agents.base import Recorder
from agents.ddpg import AMCAgent
from agents.td3 import TD3Agent
from tests.share_toy import STEPS, Toy

SMALL: dict[str, Any] = {"hidden": (16, 16), "batch": 8}
AGENTS: list[Any] = [
    (AMCAgent, DDPGOptions(**SMALL)),
    (AMCAgent, DDPGOptions(**SMALL, bound="tanh", share_reward=False, gamma=1.0)),
    (TD3Agent, TD3Options(**SMALL)),
    (TD3Agent, TD3Options(**SMALL, policy_delay=3)),
]


@pytest.mark.parametrize("kind, options", AGENTS)
def test_updates_are_those_of_stable_baselines3(kind, options):
    recorder = Recorder(Toy())
    ours = kind(recorder, recorder, options, 5, seed=0)
    ours.set_logger(Logger(None, []))
    ours.learn(5 * STEPS)
    # The two draw other noise on the actions of targets, so there is none.
    ours.target_noise_clip = 0.0
    theirs = copy.copy(ours)
    theirs.policy = copy.deepcopy(ours.policy)
    theirs._create_aliases()
    before = [p.detach().clone() for p in ours.policy.parameters()]
    for updates in (7, 5):
        np.random.seed(updates)
        ours.train(updates, options.batch)
        np.random.seed(updates)
        TD3.train(theirs, updates, options.batch)
        assert ours._n_updates == theirs._n_updates
        for (name, a), (_, b) in zip(
            ours.policy.named_parameters(), theirs.policy.named_parameters(), strict=True
        ):
            np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-3, atol=2e-5, err_msg=name)
    moved = [
        float((now.detach() - then).abs().max())
        for now, then in zip(ours.policy.parameters(), before, strict=True)
    ]
    # The biases of layers that decide nothing yet may rest; the rest moves by its learning rate.
    assert np.median(moved) > 1e-3


def test_the_losses_are_logged_and_the_noise_comes_from_torch():
    recorder = Recorder(Toy())
    found = []
    for _ in range(2):
        agent = TD3Agent(recorder, recorder, TD3Options(**SMALL), 5, seed=0)
        agent.set_logger(Logger(None, []))
        agent.learn(5 * STEPS)
        np.random.seed(0)
        torch.manual_seed(0)
        agent.train(6, 8)
        logged = agent.logger.name_to_value
        assert logged["train/n_updates"] == agent._n_updates
        assert np.isfinite([logged["train/actor_loss"], logged["train/critic_loss"]]).all()
        found.append(float(next(agent.critic.parameters()).detach().sum()))
    assert found[0] == found[1]
