"""The updates of DDPG and TD3 after an episode as one compiled function.

stable-baselines3 makes each update of some hundred operations of PyTorch, on arrays so small
that calling them takes nearly all of the time. Here all updates that follow an episode are
one call of XLA: the same equations (arXiv 1509.02971, 1802.09477) in the same order, the same
Adam, the networks of stable-baselines3 before and after.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from stable_baselines3 import TD3

from agents.bounded import InvertingGradients

Network = list[jax.Array]
"""Kernels ``[out, in]`` and biases ``[out]``, layer by layer, as PyTorch keeps them."""
ADAM = optax.scale_by_adam()
"""Its defaults are those of PyTorch."""


class Learner(NamedTuple):
    """All that an update changes; ``critics`` are one or two networks."""

    actor: Network
    critics: list[Network]
    actor_target: Network
    critic_targets: list[Network]
    actor_adam: Any
    critic_adam: Any
    updates: jax.Array


class Samples(NamedTuple):
    """Transitions of G updates of B each: arrays ``[G, B, ...]``, and noise on target actions."""

    observations: Any
    actions: Any
    next_observations: Any
    dones: Any
    rewards: Any
    noise: Any


class Constants(NamedTuple):
    """What stays the same in a search but for the learning rates."""

    actor_learning_rate: float
    critic_learning_rate: float
    tau: float
    gamma: float


class CompiledUpdates(TD3):
    """TD3 and what is derived from it, with all updates of an episode in one call.

    For networks of linear layers with ReLU between them, which observations enter as they are.
    """

    _adams: tuple[Any, Any] | None = None

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """``gradient_steps`` updates, of ``batch_size`` transitions each, as ``TD3.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        assert self.replay_buffer is not None
        drawn = self.replay_buffer.sample(gradient_steps * batch_size, self._vec_normalize_env)
        noise = torch.empty_like(drawn.actions).normal_(0, self.target_policy_noise)
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
        parts = (drawn.observations, drawn.actions, drawn.next_observations)
        samples = Samples(
            *(
                part.numpy().reshape(gradient_steps, batch_size, -1)
                for part in (*parts, drawn.dones, drawn.rewards, noise)
            )
        )
        actors, critics = (self.actor, self.actor_target), (self.critic, self.critic_target)
        actor, actor_target = (_arrays(network.mu) for network in actors)
        both = ([_arrays(q) for q in network.q_networks] for network in critics)
        own, targets = both
        actor_adam, critic_adam = self._adams or (ADAM.init(actor), ADAM.init(own))
        count = jnp.asarray(self._n_updates)
        learner = Learner(actor, own, actor_target, targets, actor_adam, critic_adam, count)
        rate, critic_rate = (
            o.param_groups[0]["lr"] for o in (self.actor.optimizer, self.critic.optimizer)
        )
        inverting = isinstance(self.actor.mu[-1], InvertingGradients)  # type: ignore[index]
        constants = Constants(rate, critic_rate, self.tau, self.gamma)
        learner, losses = _updates(learner, samples, constants, inverting, self.policy_delay)
        for network, arrays in zip(actors, (learner.actor, learner.actor_target), strict=True):
            _put(network.mu, arrays)
        for network, found in zip(critics, (learner.critics, learner.critic_targets), strict=True):
            for q, arrays in zip(network.q_networks, found, strict=True):
                _put(q, arrays)
        self._adams = (learner.actor_adam, learner.critic_adam)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        actor_losses, critic_losses = map(np.asarray, losses)
        made = np.isfinite(actor_losses)
        if made.any():
            self.logger.record("train/actor_loss", actor_losses[made].mean())
        self.logger.record("train/critic_loss", critic_losses.mean())


def _arrays(network: Any) -> Network:
    # Copies, for PyTorch's memory is written to afterwards.
    return [jnp.array(p.detach().numpy(), copy=True) for p in network.parameters()]


def _put(network: Any, arrays: Network) -> None:
    for parameter, array in zip(network.parameters(), arrays, strict=True):
        np.copyto(parameter.detach().numpy(), np.asarray(array))


@partial(jax.jit, static_argnames=("inverting", "delay"))
def _updates(
    learner: Learner, samples: Samples, constants: Constants, inverting: bool, delay: int
) -> tuple[Learner, tuple[jax.Array, jax.Array]]:
    """The learner after G updates, and the losses of actor (nan where it waits) and critics."""
    one = partial(_update, constants=constants, inverting=inverting, delay=delay)
    return jax.lax.scan(one, learner, samples)


def _update(
    learner: Learner, batch: Samples, constants: Constants, inverting: bool, delay: int
) -> tuple[Learner, tuple[jax.Array, jax.Array]]:
    act = partial(_act, inverting=inverting)
    following = batch.next_observations
    next_actions = jnp.clip(act(learner.actor_target, following) + batch.noise, -1, 1)
    next_values = jnp.stack([_value(q, following, next_actions) for q in learner.critic_targets])
    targets = batch.rewards + (1 - batch.dones) * constants.gamma * next_values.min(0)

    def critic_loss(critics: list[Network]) -> jax.Array:
        values = [_value(q, batch.observations, batch.actions) for q in critics]
        return sum((jnp.mean((value - targets) ** 2) for value in values), jnp.zeros(()))

    def actor_loss(actor: Network, critics: list[Network]) -> jax.Array:
        actions = act(actor, batch.observations)
        return -_value(critics[0], batch.observations, actions).mean()

    loss, gradients = jax.value_and_grad(critic_loss)(learner.critics)
    steps, critic_adam = ADAM.update(gradients, learner.critic_adam)
    critics = _moved(learner.critics, steps, constants.critic_learning_rate)
    updates = learner.updates + 1

    def follow(learner: Learner) -> tuple[Learner, jax.Array]:
        loss, gradients = jax.value_and_grad(actor_loss)(learner.actor, critics)
        steps, actor_adam = ADAM.update(gradients, learner.actor_adam)
        actor = _moved(learner.actor, steps, constants.actor_learning_rate)
        tau = constants.tau
        actor_target, critic_targets = (
            jax.tree.map(lambda old, new: (1 - tau) * old + tau * new, old, new)
            for old, new in ((learner.actor_target, actor), (learner.critic_targets, critics))
        )
        changed = {"actor": actor, "actor_adam": actor_adam}
        targets = {"actor_target": actor_target, "critic_targets": critic_targets}
        return learner._replace(**changed, **targets), loss

    learner = learner._replace(critics=critics, critic_adam=critic_adam, updates=updates)
    if delay == 1:
        learner, waited = follow(learner)
    else:
        stay = jnp.full((), jnp.nan)
        learner, waited = jax.lax.cond(updates % delay == 0, follow, lambda x: (x, stay), learner)
    return learner, (waited, loss)


def _moved(networks: Any, steps: Any, learning_rate: float) -> Any:
    return jax.tree.map(lambda p, step: p - learning_rate * step, networks, steps)


def _layers(network: Sequence[jax.Array], x: jax.Array) -> jax.Array:
    pairs = list(zip(network[::2], network[1::2], strict=True))
    for kernel, bias in pairs[:-1]:
        x = jax.nn.relu(x @ kernel.T + bias)
    kernel, bias = pairs[-1]
    return x @ kernel.T + bias


def _act(actor: Network, observations: jax.Array, inverting: bool) -> jax.Array:
    x = _layers(actor, observations)
    return _invert(x) if inverting else jnp.tanh(x)


def _value(critic: Network, observations: jax.Array, actions: jax.Array) -> jax.Array:
    return _layers(critic, jnp.concatenate([observations, actions], -1))


@jax.custom_vjp
def _invert(x: jax.Array) -> jax.Array:
    """``agents.bounded.InvertingGradients``."""
    return jnp.clip(x, -1, 1)


_invert.defvjp(
    lambda x: (jnp.clip(x, -1, 1), x),
    lambda x, gradient: (gradient * jnp.where(gradient > 0, (x + 1) / 2, (1 - x) / 2),),
)
