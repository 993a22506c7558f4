"""The updates of DDPG and TD3 after an episode, written out.

The same equations as in stable-baselines3 (arXiv 1509.02971, 1802.09477) on the same batches in
the same order, with the gradients of ``agents.perceptron`` instead of PyTorch's: an update is
a few thousand numbers, and PyTorch would take longer to find its way than to compute them.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import TD3

from agents.bounded import InvertingGradients
from agents.perceptron import Adam, Group


class Learner(NamedTuple):
    """What an update changes; critics are a group of one or two networks."""

    actor: Group
    critics: Group
    actor_target: Group
    critic_targets: Group
    actor_adam: Adam
    critic_adam: Adam


class Batch(NamedTuple):
    """Transitions ``[B, ...]``, and the noise on the target's actions."""

    observations: np.ndarray
    actions: np.ndarray
    next_observations: np.ndarray
    dones: np.ndarray
    rewards: np.ndarray
    noise: np.ndarray


class WrittenOutUpdates(TD3):
    """TD3 and what is derived from it, for networks of linear layers with ReLU between them."""

    _learner: Learner | None = None

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """``gradient_steps`` updates, of ``batch_size`` transitions each, as ``TD3.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        if self._learner is None:
            self._learner = self._taken_over()
        actor_losses, critic_losses = [], []
        for batch in self._batches(gradient_steps, batch_size):
            self._n_updates += 1
            critic_losses.append(self._improve_critics(self._learner, batch))
            if self._n_updates % self.policy_delay == 0:
                actor_losses.append(self._improve_actor(self._learner, batch))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if actor_losses:
            self.logger.record("train/actor_loss", np.mean(actor_losses))
        self.logger.record("train/critic_loss", np.mean(critic_losses))

    def _taken_over(self) -> Learner:
        actor, actor_target = (Group([x.mu]) for x in (self.actor, self.actor_target))
        critics, targets = (Group(x.q_networks) for x in (self.critic, self.critic_target))
        return Learner(actor, critics, actor_target, targets, Adam(actor), Adam(critics))

    def _batches(self, count: int, size: int) -> list[Batch]:
        """As many batches, drawn at once."""
        assert self.replay_buffer is not None
        drawn = self.replay_buffer.sample(count * size, self._vec_normalize_env)
        noise = torch.empty_like(drawn.actions).normal_(0, self.target_policy_noise)
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
        states = (drawn.observations, drawn.actions, drawn.next_observations)
        parts = [part.numpy() for part in (*states, drawn.dones, drawn.rewards, noise)]
        starts = range(0, count * size, size)
        return [Batch(*(part[start : start + size] for part in parts)) for start in starts]

    def _improve_critics(self, learner: Learner, batch: Batch) -> float:
        following = batch.next_observations
        next_actions = self._act(learner.actor_target, following) + batch.noise
        asked = np.concatenate([following, np.clip(next_actions, -1, 1)], 1)
        values = [critic(asked) for critic in learner.critic_targets.networks]
        lowest = values[0] if len(values) == 1 else np.minimum(*values)
        targets = batch.rewards + (1 - batch.dones) * np.float32(self.gamma) * lowest
        played, loss = np.concatenate([batch.observations, batch.actions], 1), 0.0
        for critic in learner.critics.networks:
            error = critic(played) - targets
            loss += float(np.mean(error * error))
            critic.backward(error * np.float32(2 / len(error)))
        learner.critic_adam.step(_learning_rate(self.critic))
        return loss

    def _improve_actor(self, learner: Learner, batch: Batch) -> float:
        asked = learner.actor.networks[0](batch.observations)
        actions = self._bounded(asked)
        critic = learner.critics.networks[0]
        values = critic(np.concatenate([batch.observations, actions], 1))
        downhill = np.full_like(values, -1 / len(values))
        to_actions = critic.backward(downhill, parameters=False)[:, -actions.shape[1] :]
        if self._inverts:
            to_actions = to_actions * np.where(to_actions > 0, (asked + 1) / 2, (1 - asked) / 2)
        else:
            to_actions = to_actions * (1 - actions * actions)
        learner.actor.networks[0].backward(to_actions)
        learner.actor_adam.step(_learning_rate(self.actor))
        learner.critic_targets.follow(learner.critics, self.tau)
        learner.actor_target.follow(learner.actor, self.tau)
        return -float(values.mean())

    def _act(self, actor: Group, observations: np.ndarray) -> np.ndarray:
        return self._bounded(actor.networks[0](observations))

    def _bounded(self, asked: np.ndarray) -> np.ndarray:
        return np.clip(asked, -1, 1) if self._inverts else np.tanh(asked)

    @property
    def _inverts(self) -> bool:
        layers: Any = self.actor.mu
        return isinstance(layers[-1], InvertingGradients)


def _learning_rate(network: Any) -> float:
    return network.optimizer.param_groups[0]["lr"]
