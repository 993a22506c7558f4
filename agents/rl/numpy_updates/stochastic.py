"""The updates of SAC after an episode, written out as those of DDPG and TD3 are.

The same equations as in stable-baselines3 (arXiv 1812.05905) on the same batches and the same
draws in the same order. With ``a = tanh(u)``, ``u = mean + deviation · noise``, the logarithm of
an action's density is that of the Gaussian less ``Σ log(1 - a² + ε)``. The noise is drawn first,
so that the Gaussian's has the derivative -1 by the logarithm of the deviation, and 0 by the mean.
"""

from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from agents.rl.numpy_updates.deterministic import (
    Batch,
    adam,
    critics_of,
    drawn,
    improve_critics,
    learning_rate,
)
from agents.rl.numpy_updates.perceptron import Adam, Group, linears

EPSILON = np.float32(1e-6)
"""Of stable-baselines3's squashed Gaussian."""
LOG_ROOT_OF_2PI = np.float32(np.log(np.sqrt(2 * np.pi)))


class Networks(NamedTuple):
    """What an update changes; the actor's outputs are means and logarithms of deviations."""

    actor: Group
    critics: Group
    critic_targets: Group
    actor_adam: Adam
    critic_adam: Adam


class Entropy(NamedTuple):
    """The logarithm of the entropy's weight ``[1]``, a view of PyTorch's, and its gradient."""

    logarithm: np.ndarray
    gradient: np.ndarray
    adam: Adam


class Drawn(NamedTuple):
    """Actions ``[B, K]`` of the actor, and all that their gradients need."""

    actions: np.ndarray
    log_density: np.ndarray
    spread: np.ndarray
    asked: np.ndarray


class WrittenOutSAC(SAC):
    """SAC for networks of linear layers with ReLU between them, without gSDE."""

    _networks: Networks | None = None
    _library = False
    """Whether to update as stable-baselines3 does; set by ``benchmarks.agent_share``."""
    _entropy: Entropy | None = None

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """``gradient_steps`` updates, of ``batch_size`` transitions each, as ``SAC.train``."""
        if self._library:
            return super().train(gradient_steps, batch_size)
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)
        if self._networks is None:
            self._networks = self._taken_over()
        found = []
        for place, batch in enumerate(drawn(self, gradient_steps, batch_size)):
            found.append(self._improve(self._networks, batch))
            if place % self.target_update_interval == 0:
                self._networks.critic_targets.follow(self._networks.critics, self.tau)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        names = ["ent_coef", "actor_loss", "critic_loss"]
        names += [] if self._entropy is None else ["ent_coef_loss"]
        for name, values in zip(names, zip(*found, strict=True), strict=False):
            self.logger.record(f"train/{name}", np.mean(values))

    def _taken_over(self) -> Networks:
        layers = linears(self.actor.latent_pi)
        actor = Group([[*layers, (self.actor.mu, self.actor.log_std)]])  # type: ignore[list-item]
        critics, targets = (critics_of(x) for x in (self.critic, self.critic_target))
        if self.ent_coef_optimizer is not None:
            assert self.log_ent_coef is not None
            logarithm, gradient = self.log_ent_coef.detach().numpy(), np.zeros(1, np.float32)
            self._entropy = Entropy(logarithm, gradient, Adam(logarithm, gradient))
        return Networks(actor, critics, targets, *map(adam, (actor, critics)))

    def _improve(self, networks: Networks, batch: Batch) -> tuple[float, float, float, float]:
        """An update: the entropy's weight, and the losses of actor, critics and that weight."""
        size = batch.actions.shape
        noise, next_noise = (torch.normal(torch.zeros(size), torch.ones(size)) for _ in range(2))
        following = _draw(networks.actor, batch.next_observations, next_noise.numpy())
        own = _draw(networks.actor, batch.observations, noise.numpy())
        if self._entropy is None:
            weight, weight_loss = np.float32(self.ent_coef_tensor.item()), 0.0
        else:
            weight = np.exp(self._entropy.logarithm[0])
            weight_loss = self._weigh(self._entropy, own)
        asked = np.concatenate([batch.next_observations, following.actions], 1)
        values = [critic(asked) for critic in networks.critic_targets.networks]
        value = np.minimum(*values) - weight * following.log_density
        targets = batch.rewards + (1 - batch.dones) * np.float32(self.gamma) * value
        loss = improve_critics(networks.critics, batch, targets)
        networks.critics.gradients *= np.float32(0.5)
        networks.critic_adam.step(learning_rate(self.critic))
        actor_loss = _improve_actor(networks, batch.observations, own, weight)
        networks.actor_adam.step(learning_rate(self.actor))
        return float(weight), actor_loss, loss / 2, weight_loss

    def _weigh(self, entropy: Entropy, own: Drawn) -> float:
        missing = np.mean(own.log_density + np.float32(self.target_entropy))
        loss = -float(entropy.logarithm[0] * missing)
        entropy.gradient[:] = -missing
        assert self.ent_coef_optimizer is not None
        entropy.adam.step(self.ent_coef_optimizer.param_groups[0]["lr"])
        return loss


def _draw(actor: Group, observations: np.ndarray, noise: np.ndarray) -> Drawn:
    asked = actor.networks[0](observations)
    mean, logarithm = np.split(asked, 2, axis=1)
    logarithm = np.clip(logarithm, LOG_STD_MIN, LOG_STD_MAX)
    spread = np.exp(logarithm) * noise
    actions = np.tanh(mean + spread)
    density = -0.5 * noise * noise - logarithm - LOG_ROOT_OF_2PI
    density -= np.log(1 - actions * actions + EPSILON)
    return Drawn(actions, density.sum(1, keepdims=True), spread, asked)


def _improve_actor(
    networks: Networks, observations: np.ndarray, own: Drawn, weight: np.float32
) -> float:
    """The gradient of ``mean(weight · log density - lowest value)``; returns that loss.

    The actor's last call must have been the one that drew ``own``.
    """
    seen, critics = np.concatenate([observations, own.actions], 1), networks.critics.networks
    first, second = (critic(seen) for critic in critics)
    lowest, share = first <= second, np.float32(1 / len(first))
    knobs = own.actions.shape[1]
    to_actions = sum(
        critic.backward(np.where(mine, -share, np.float32(0)), parameters=False)[:, -knobs:]
        for critic, mine in zip(critics, (lowest, ~lowest), strict=True)
    )
    slope = 1 - own.actions * own.actions
    to_drawn = slope * (to_actions + weight * share * 2 * own.actions / (slope + EPSILON))
    logarithm = own.asked[:, knobs:]
    inside = (logarithm >= LOG_STD_MIN) & (logarithm <= LOG_STD_MAX)
    to_logarithm = np.where(inside, to_drawn * own.spread - weight * share, np.float32(0))
    networks.actor.networks[0].backward(np.concatenate([to_drawn, to_logarithm], 1))
    return float(np.mean(weight * own.log_density - np.where(lowest, first, second)))
