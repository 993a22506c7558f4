"""An evaluation of a policy in PyTorch: the same network, pruned by Torch-Pruning, fine-tuned.

As it is usually written: eager, channels last, a thread for every core.
"""

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch_pruning  # pyright: ignore[reportMissingImports]
from torch import nn
from torch.nn import functional

from benchmarks.coupling import find_counterparts
from pfrl.data import Dataset
from pfrl.graph import Graph, Variables

tp: Any = torch_pruning
"""What its annotations promise is less than what its functions return."""
Batches = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Images ``[N, C, H, W]`` and labels ``[N]``."""


class Block(nn.Module):
    """Two 3×3 convolutions and a residual sum, with option A's shortcut.

    Where it changes the shape the shortcut is a fixed 1×1 convolution of zeros and ones, for
    Torch-Pruning takes padding for an operation that keeps the places of its channels. In
    ResNet-20 these two have 0.6 % of the MACs.
    """

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = None
        if c_in != c_out:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            places = torch.arange(c_in)
            with torch.no_grad():
                self.shortcut.weight.zero_()[places + (c_out - c_in) // 2, places] = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class CifarResNet(nn.Module):
    """The equal of ``pfrl.models.zoo.resnet.CifarResNet``, with its names for the layers."""

    def __init__(self, depth: int, num_classes: int, in_channels: int = 3, width: int = 16):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages, c_in = [], width
        for stage in range(3):
            c_out, blocks = width * 2**stage, []
            for block in range((depth - 2) // 6):
                blocks.append(Block(c_in, c_out, 2 if stage > 0 and block == 0 else 1))
                c_in = c_out
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(c_in, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def with_weights(model: CifarResNet, variables: Variables) -> CifarResNet:
    """The model with our arrays, in place; what the shortcuts hold is no weight.

    Raises:
      ValueError: if the two are not the same network.
    """
    state = {
        name: array
        for name, array in model.state_dict().items()
        if array.ndim > 0 and ".shortcut." not in name
    }
    ours = {name: np.asarray(value) for name, value in variables.items()}
    shapes = {name: tuple(array.shape) for name, array in state.items()}
    counterparts = find_counterparts(shapes, {name: array.shape for name, array in ours.items()})
    for name, array in state.items():
        value = ours[counterparts[name].name]
        # [H, W, in, out] to [out, in, H, W], and [in, out] to [out, in].
        order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
        array.copy_(torch.from_numpy(value.transpose(order).copy()))
    return model


def equal_of(name: str, dataset: Dataset, graph: Graph) -> CifarResNet:
    """The equal of a ``resnetN`` of ours, with its arrays, in evaluation mode."""
    depth = int(name.removeprefix("resnet"))
    model = CifarResNet(depth, len(dataset.classes), dataset.image_shape[-1])
    return with_weights(model, graph.source.variables).eval()


def removed_outputs(graph: Graph, kept: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """By layer, the output channels that are not among those that the groups keep."""
    removed: dict[str, set[int]] = {layer.name: set() for layer in graph.layers}
    outputs = {layer.kernel: layer for layer in graph.layers}
    for name, group in graph.groups.items():
        gone = np.setdiff1d(np.arange(group.size), kept[name])
        for member in group.members:
            layer = outputs.get(member.parameter)
            if layer is not None and member.axis == len(layer.kernel_shape) - 1:
                removed[layer.name].update(member.indices[gone].ravel().tolist())
    return {name: sorted(places) for name, places in removed.items()}


def prune(model: nn.Module, removed: Mapping[str, Sequence[int]], x: torch.Tensor) -> nn.Module:
    """A copy without these output channels, cut by Torch-Pruning with all that goes with them.

    Args:
      model: a network; layers are found by their names.
      removed: of every layer; those that are pruned together have the same.
      x: example images.
    """
    small = copy.deepcopy(model)
    depgraph = tp.DependencyGraph().build_dependency(small, x)
    sizes = {name: _outputs(model, name) - len(places) for name, places in removed.items()}
    for name, places in removed.items():
        # Of layers that go together, the first takes the others with it.
        if _outputs(small, name) != sizes[name]:
            layer = small.get_submodule(name)
            cut = depgraph.get_pruner_of_module(layer).prune_out_channels
            depgraph.get_pruning_group(layer, cut, list(places)).prune()
    found = {name: _outputs(small, name) for name in removed}
    if found != sizes:
        raise ValueError(f"Torch-Pruning left {found} output channels, expected {sizes}")
    return small


def _outputs(model: nn.Module, name: str) -> int:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear), name
    return len(layer.weight)


def tune(
    model: nn.Module,
    batches: Batches,
    learning_rate: float,
    weight_decay: float,
    falls_over: int | None = None,
) -> None:
    """Fine-tune by Nesterov SGD, in place; kernels decay, and shortcuts stay what they are.

    Args:
      model: is trained.
      batches: a step each.
      learning_rate, weight_decay: of the optimizer.
      falls_over: steps in which the learning rate falls to 0 as a cosine; None leaves it.
    """
    named = [(n, p) for n, p in model.named_parameters() if ".shortcut." not in n]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".shortcut." not in name)
    kernels = [parameter for _, parameter in named if parameter.ndim > 1]
    others = [parameter for _, parameter in named if parameter.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": weight_decay}, {"params": others}],
        learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    steps = falls_over or 1
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for x, labels in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        if falls_over:
            falling.step()


def validate(model: nn.Module, batches: Batches) -> float:
    """Share of right answers."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for x, labels in batches:
            right += int((model(x).argmax(1) == labels).sum())
    return right / sum(len(labels) for _, labels in batches)


def to_torch(batches: Iterable[tuple[np.ndarray, np.ndarray]], at_once: int) -> Batches:
    """Batches ``[N, H, W, C]`` as views ``[N, C, H, W]``, whose channels are last in memory.

    Args:
      batches: images, which may fill up a batch beyond its labels, and labels.
      at_once: images in a batch of PyTorch's, at most.
    """
    return [
        (
            torch.from_numpy(x[start : start + at_once][: len(y) - start]).permute(0, 3, 1, 2),
            torch.from_numpy(y[start : start + at_once]).long(),
        )
        for x, y in batches
        for start in range(0, len(y), at_once)
    ]


class Timed(NamedTuple):
    """What an evaluation yielded: accuracy, and seconds by part."""

    accuracy: float
    seconds: dict[str, float]


def evaluate(
    model: nn.Module,
    removed: Mapping[str, Sequence[int]],
    tuning: Batches,
    images: Batches,
    learning_rate: float,
    weight_decay: float,
) -> Timed:
    """Prune, fine-tune and judge; the model stays as it is."""
    times = [time.perf_counter()]
    small = prune(model, removed, images[0][0][:1])
    small.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    times.append(time.perf_counter())
    tune(small, tuning, learning_rate, weight_decay)
    times.append(time.perf_counter())
    accuracy = validate(small, images)
    times.append(time.perf_counter())
    parts = np.diff(times).tolist()
    return Timed(accuracy, dict(zip(("pruning", "fine-tuning", "validation"), parts, strict=True)))
