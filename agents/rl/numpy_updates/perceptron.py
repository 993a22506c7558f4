"""Small perceptrons whose gradients are written out, in NumPy.

The networks of an agent have some thousand parameters. PyTorch spends nearly all of an update
of such on finding out what to compute; these few products, sums and masks are the same
numbers without that. They work on the parameters of PyTorch modules in place, so
that whoever holds the modules sees every change.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Layer = tuple[np.ndarray, np.ndarray]
"""A kernel ``[out, in]`` and a bias ``[out]``, as PyTorch keeps them."""


class Perceptron:
    """Linear layers with ReLU between them, ``[B, in] -> [B, out]``, and their gradients."""

    def __init__(self, layers: Sequence[Layer], gradients: Sequence[Layer]):
        self._layers, self._gradients = layers, gradients
        self._inputs: list[np.ndarray] = []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The outputs; what ``backward`` needs is kept until the next call."""
        self._inputs = [x]
        last = len(self._layers) - 1
        for place, (kernel, bias) in enumerate(self._layers):
            x = x @ kernel.T
            x += bias
            if place < last:
                np.maximum(x, 0, out=x)
                self._inputs.append(x)
        return x

    def backward(self, gradient: np.ndarray, *, parameters: bool = True) -> np.ndarray:
        """The gradient to the last call's input, from that to its output ``[B, out]``.

        Args:
          gradient: of a loss, with respect to the output.
          parameters: whether those to the parameters are wanted too.
        """
        places = range(len(self._layers) - 1, -1, -1)
        for place, x in zip(places, reversed(self._inputs), strict=True):
            if parameters:
                to_kernel, to_bias = self._gradients[place]
                np.matmul(gradient.T, x, out=to_kernel)
                gradient.sum(0, out=to_bias)
            gradient = gradient @ self._layers[place][0]
            if place > 0:
                gradient *= x > 0
        return gradient


class Group:
    """Networks of one optimiser, their parameters one vector, which PyTorch's become views of.

    Attributes:
      networks: in the order that they were given.
      parameters: ``[P]``, float32.
      gradients: ``[P]``, of the last ``backward`` of each network.
    """

    def __init__(self, networks: Sequence[Sequence[Sequence[torch.nn.Linear]]]):
        """Each network is a sequence of layers, and a layer modules side by side: their inputs
        are the same, their outputs joined."""
        layers = [layer for network in networks for layer in network]
        joined = [
            arrays
            for layer in layers
            for arrays in ([m.weight for m in layer], [m.bias for m in layer])
        ]
        flat = [parameter for arrays in joined for parameter in arrays]
        self.parameters = np.concatenate([p.detach().numpy().ravel() for p in flat])
        self.gradients = np.zeros_like(self.parameters)
        shapes = [(sum(len(p) for p in arrays), *arrays[0].shape[1:]) for arrays in joined]
        own = _views(self.parameters, [tuple(p.shape) for p in flat])
        for parameter, view in zip(flat, own, strict=True):
            parameter.data = torch.from_numpy(view)
        kernels, gradients = (_pairs(_views(x, shapes)) for x in (self.parameters, self.gradients))
        self.networks, start = [], 0
        for network in networks:
            place = slice(start, start := start + len(network))
            self.networks.append(Perceptron(kernels[place], gradients[place]))

    def follow(self, other: "Group", share: float) -> None:
        """Move by a share of the way to another group of the same shapes (Polyak's average)."""
        self.parameters += share * (other.parameters - self.parameters)


def linears(module: torch.nn.Module) -> list[tuple[torch.nn.Linear]]:
    """The layers of a module that applies one after the other, as ``Group`` takes them."""
    return [(layer,) for layer in module.modules() if isinstance(layer, torch.nn.Linear)]


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), with PyTorch's defaults.

    Args:
      parameters: ``[P]``, changed in place.
      gradients: ``[P]``, read at every step.
    """

    def __init__(
        self,
        parameters: np.ndarray,
        gradients: np.ndarray,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        self._parameters, self._gradients = parameters, gradients
        self._betas, self._eps = betas, eps
        self._mean, self._square = np.zeros_like(parameters), np.zeros_like(parameters)
        self._steps = 0

    def step(self, learning_rate: float) -> None:
        """Take a step against the gradients."""
        self._steps += 1
        gradients, (first, second) = self._gradients, self._betas
        self._mean += (1 - first) * (gradients - self._mean)
        self._square += (1 - second) * (gradients * gradients - self._square)
        root = np.sqrt(self._square)
        root /= np.sqrt(1 - second**self._steps)
        root += self._eps
        np.divide(self._mean, root, out=root)
        root *= learning_rate / (1 - first**self._steps)
        self._parameters -= root


def _views(vector: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = np.split(vector, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _pairs(arrays: Sequence[Any]) -> list[Any]:
    return list(zip(arrays[::2], arrays[1::2], strict=True))
