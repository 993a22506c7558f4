"""Small perceptrons whose gradients are written out, in NumPy.

The networks of an agent have some thousand parameters. PyTorch spends nearly all of an update
of such on finding out what to compute; these few products, sums and masks are the same
numbers in a tenth of the time. They work on the parameters of PyTorch modules in place, so
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
      networks: one a sequence of modules, of which the linear ones are layers.
      parameters: ``[P]``, float32.
      gradients: ``[P]``, of the last ``backward`` of each network.
    """

    def __init__(self, modules: Sequence[torch.nn.Module]):
        linears = [
            [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
            for module in modules
        ]
        arrays = [p for layers in linears for layer in layers for p in (layer.weight, layer.bias)]
        self.parameters = np.concatenate([p.detach().numpy().ravel() for p in arrays])
        self.gradients = np.zeros_like(self.parameters)
        views = self._views(arrays, self.parameters)
        gradients = self._views(arrays, self.gradients)
        for parameter, view in zip(arrays, views, strict=True):
            parameter.data = torch.from_numpy(view)
        self.networks, start = [], 0
        for layers in linears:
            place = slice(start, start := start + 2 * len(layers))
            self.networks.append(Perceptron(_pairs(views[place]), _pairs(gradients[place])))

    @staticmethod
    def _views(like: Sequence[torch.Tensor], vector: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([array.numel() for array in like])
        parts = np.split(vector, ends[:-1])
        return [part.reshape(tuple(array.shape)) for part, array in zip(parts, like, strict=True)]

    def follow(self, other: "Group", share: float) -> None:
        """Move by a share of the way to another group of the same shapes (Polyak's average)."""
        self.parameters += share * (other.parameters - self.parameters)


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) on a group, with PyTorch's defaults."""

    def __init__(self, group: Group, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        self._group, self._betas, self._eps = group, betas, eps
        self._mean = np.zeros_like(group.parameters)
        self._square = np.zeros_like(group.parameters)
        self._steps = 0

    def step(self, learning_rate: float) -> None:
        """Take a step against the group's gradients."""
        self._steps += 1
        gradients, (first, second) = self._group.gradients, self._betas
        self._mean += (1 - first) * (gradients - self._mean)
        self._square += (1 - second) * (gradients * gradients - self._square)
        root = np.sqrt(self._square)
        root /= np.sqrt(1 - second**self._steps)
        root += self._eps
        np.divide(self._mean, root, out=root)
        root *= learning_rate / (1 - first**self._steps)
        self._group.parameters -= root


def _pairs(arrays: Sequence[Any]) -> list[Any]:
    return list(zip(arrays[::2], arrays[1::2], strict=True))
