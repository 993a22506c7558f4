"""An actor's last layer that keeps actions in [-1, 1] without losing its gradient at the ends."""

from typing import Any

import torch
from stable_baselines3.td3.policies import Actor


class _Invert(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        # Descent lowers x where the gradient is positive: the room that is left there is x + 1.
        return gradient * torch.where(gradient > 0, (x + 1) / 2, (1 - x) / 2)


class InvertingGradients(torch.nn.Module):
    """``clip(x, -1, 1)``, with the gradient scaled by the room left in its direction.

    Hausknecht and Stone 2016 (arXiv 1511.04143), equation 11. Outside the range the
    scale is negative and leads back. A tanh (AMC: a sigmoid) instead has no
    gradient at the ends, where an actor that once got there stays.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        result = _Invert.apply(x)
        assert isinstance(result, torch.Tensor)
        return result


def invert_gradients(*actors: Actor) -> None:
    """Put ``InvertingGradients`` in the place of the tanh that the actors end with."""
    for actor in actors:
        assert isinstance(actor.mu, torch.nn.Sequential)
        actor.mu[-1] = InvertingGradients()
