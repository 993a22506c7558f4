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
    (SACAgent, SACOptions(**SMALL, learn_entropy=False)),
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


def weight_of(agent):
    return 0.0 if getattr(agent, "log_ent_coef", None) is None else agent.log_ent_coef.item()


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
    before = [p.detach().clone() for p in ours.policy.parameters()]
    for updates in (7, 5):
        for agent, train in ((ours, type(ours).train), (theirs, plain.train)):
            np.random.seed(updates)
            torch.manual_seed(updates)
            train(agent, updates, options.batch)
        assert ours._n_updates == theirs._n_updates
        assert np.isclose(*(float(weight_of(agent)) for agent in (ours, theirs)), rtol=1e-5)
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
