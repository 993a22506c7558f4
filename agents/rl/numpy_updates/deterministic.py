"""The updates of DDPG and TD3 after an episode, written out.

The same equations as in stable-baselines3 (arXiv 1509.02971, 1802.09477) on the same batches in
the same order, with the gradients of ``agents.rl.numpy_updates.perceptron`` instead of PyTorch's:
an update is
a few thousand numbers, and PyTorch would take longer to find its way than to compute them.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.rl.bounded import InvertingGradients
from agents.rl.numpy_updates.perceptron import Adam, Group, linears


class Networks(NamedTuple):
    """What an update changes; critics are a group of one or two networks."""

    actor: Group
    critics: Group
    actor_target: Group
    critic_targets: Group
    actor_adam: Adam
    critic_adam: Adam


class Batch(NamedTuple):
    """Transitions ``[B, ...]``, and noise on the target's actions if any is drawn with them."""

    observations: np.ndarray
    actions: np.ndarray
    next_observations: np.ndarray
    dones: np.ndarray
    rewards: np.ndarray
    noise: Any


class WrittenOutUpdates(TD3):
    """TD3 and what is derived from it, for networks of linear layers with ReLU between them."""

    _networks: Networks | None = None
    _library = False
    """Whether to update as stable-baselines3 does; set by ``benchmarks.agent_share``."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """``gradient_steps`` updates, of ``batch_size`` transitions each, as ``TD3.train``."""
        if self._library:
            return super().train(gradient_steps, batch_size)
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        if self._networks is None:
            self._networks = self._taken_over()
        actor_losses, critic_losses = [], []
        for batch in self._batches(gradient_steps, batch_size):
            self._n_updates += 1
            critic_losses.append(self._improve_critics(self._networks, batch))
            if self._n_updates % self.policy_delay == 0:
                actor_losses.append(self._improve_actor(self._networks, batch))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if actor_losses:
            self.logger.record("train/actor_loss", np.mean(actor_losses))
        self.logger.record("train/critic_loss", np.mean(critic_losses))

    def _taken_over(self) -> Networks:
        actor, actor_target = (Group([linears(x.mu)]) for x in (self.actor, self.actor_target))
        critics, targets = (critics_of(x) for x in (self.critic, self.critic_target))
        return Networks(actor, critics, actor_target, targets, *map(adam, (actor, critics)))

    def _batches(self, count: int, size: int) -> list[Batch]:
        batches = drawn(self, count, size)
        noise = torch.empty(count * size, *batches[0].actions.shape[1:])
        noise = noise.normal_(0, self.target_policy_noise)
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip).numpy()
        places = range(0, count * size, size)
        return [
            batch._replace(noise=noise[start : start + size])
            for batch, start in zip(batches, places, strict=True)
        ]

    def _improve_critics(self, networks: Networks, batch: Batch) -> float:
        following = batch.next_observations
        next_actions = self._act(networks.actor_target, following) + batch.noise
        asked = np.concatenate([following, np.clip(next_actions, -1, 1)], 1)
        values = [critic(asked) for critic in networks.critic_targets.networks]
        lowest = values[0] if len(values) == 1 else np.minimum(*values)
        targets = batch.rewards + (1 - batch.dones) * np.float32(self.gamma) * lowest
        loss = improve_critics(networks.critics, batch, targets)
        networks.critic_adam.step(learning_rate(self.critic))
        return loss

    def _improve_actor(self, networks: Networks, batch: Batch) -> float:
        asked = networks.actor.networks[0](batch.observations)
        actions = self._bounded(asked)
        critic = networks.critics.networks[0]
        values = critic(np.concatenate([batch.observations, actions], 1))
        downhill = np.full_like(values, -1 / len(values))
        to_actions = critic.backward(downhill, parameters=False)[:, -actions.shape[1] :]
        if self._inverts:
            to_actions = to_actions * np.where(to_actions > 0, (asked + 1) / 2, (1 - asked) / 2)
        else:
            to_actions = to_actions * (1 - actions * actions)
        networks.actor.networks[0].backward(to_actions)
        networks.actor_adam.step(learning_rate(self.actor))
        networks.critic_targets.follow(networks.critics, self.tau)
        networks.actor_target.follow(networks.actor, self.tau)
        return -float(values.mean())

    def _act(self, actor: Group, observations: np.ndarray) -> np.ndarray:
        return self._bounded(actor.networks[0](observations))

    def _bounded(self, asked: np.ndarray) -> np.ndarray:
        return np.clip(asked, -1, 1) if self._inverts else np.tanh(asked)

    @property
    def _inverts(self) -> bool:
        layers: Any = self.actor.mu
        return isinstance(layers[-1], InvertingGradients)


def drawn(agent: OffPolicyAlgorithm, count: int, size: int) -> list[Batch]:
    """So many batches of the replay memory, drawn at once; without noise."""
    assert agent.replay_buffer is not None
    samples = agent.replay_buffer.sample(count * size, agent._vec_normalize_env)
    states = (samples.observations, samples.actions, samples.next_observations)
    parts = [part.numpy() for part in (*states, samples.dones, samples.rewards)]
    return [
        Batch(*(part[start : start + size] for part in parts), noise=None)
        for start in range(0, count * size, size)
    ]


def critics_of(critic: Any) -> Group:
    """The networks of stable-baselines3's ``ContinuousCritic``."""
    return Group([linears(network) for network in critic.q_networks])


def adam(group: Group) -> Adam:
    """Of all its parameters."""
    return Adam(group.parameters, group.gradients)


def learning_rate(network: Any) -> float:
    """What stable-baselines3 has set it to for now."""
    return network.optimizer.param_groups[0]["lr"]


def improve_critics(critics: Group, batch: Batch, targets: np.ndarray) -> float:
    """The gradients of the mean squared errors, added up; returns their sum."""
    played, loss = np.concatenate([batch.observations, batch.actions], 1), 0.0
    for critic in critics.networks:
        error = critic(played) - targets
        loss += float(np.mean(error * error))
        critic.backward(error * np.float32(2 / len(error)))
    return loss
