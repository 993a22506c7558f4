"""Optimisers and learning rates: which parameters decay, and how fast each of them learns."""

import jax.numpy as jnp
import optax

from pfrl.graph.source import Variables
from pfrl.training.config import FitConfig

QUANTIZER = "quantizer."
"""How the names of parameters begin that are a quantizer's step or clip."""


def decayed(parameters: Variables) -> dict[str, bool]:
    """Which parameters are kernels, the only ones with weight decay.

    These have two or more axes. Scales, shifts and biases have one; what quantizers
    learn is none, whatever its shape: decay would pull a grid towards zero.
    """
    return {
        name: jnp.ndim(value) > 1 and not name.startswith(QUANTIZER)
        for name, value in parameters.items()
    }


def sgd(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float, quantizer_rate: float = 1.0
) -> optax.GradientTransformation:
    """SGD with Nesterov momentum 0.9; the decay is added to the gradient.

    Args:
      learning_rate: a number, or a function of the steps done.
      weight_decay: of the parameters that are ``decayed``.
      quantizer_rate: factor on the learning rate of quantizers' parameters.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.sgd(learning_rate, momentum=0.9, nesterov=True),
        _scaled_quantizers(quantizer_rate),
    )


def adamw(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float, quantizer_rate: float = 1.0
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (arXiv 1711.05101); arguments as of ``sgd``."""
    return optax.chain(
        optax.adamw(learning_rate, weight_decay=weight_decay, mask=decayed),
        _scaled_quantizers(quantizer_rate),
    )


def _scaled_quantizers(factor: float) -> optax.GradientTransformation:
    """Scaling an update is scaling its learning rate; the factor may be traced."""

    def learned(parameters: Variables) -> dict[str, bool]:
        return {name: name.startswith(QUANTIZER) for name in parameters}

    return optax.masked(optax.scale(factor), learned)


def learning_rate(config: FitConfig, steps: int) -> optax.Schedule:
    """A linear rise and a fall as a cosine, as a function of the steps done.

    The first step is taken at a tenth of the peak, or at the peak if there is no rise.
    The cosine is that of SGDR (arXiv 1608.03983), without restarts.
    """
    peak, rise = config.learning_rate, int(config.warmup * steps)
    rising = optax.linear_schedule(peak / 10, peak, rise)
    falling = optax.cosine_decay_schedule(peak, steps - rise)
    return optax.join_schedules([rising, falling], [rise])


def make_optimizer(config: FitConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser of a training of so many steps; rates and decay may be traced."""
    make = {"sgd": sgd, "adamw": adamw}[config.optimizer]
    return make(learning_rate(config, steps), config.weight_decay, config.quantizer_rate)
