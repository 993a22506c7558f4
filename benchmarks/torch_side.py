"""What Torch-Pruning finds and removes, in the form of ``benchmarks.coupling``."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch_pruning  # pyright: ignore[reportMissingImports]
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.coupling import Channel, Counterpart, Slot
from benchmarks.pytorch.models import Attention, FusedAttention, ResNet50

tp: Any = torch_pruning
"""Its own types say less than it takes."""


class DepGraph:
    """Torch-Pruning's dependency graph of a network whose classifier is left alone.

    Args:
      model: of ``benchmarks.pytorch.models``.
      x: example images.
      counterparts: our arrays by the names of the model's.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor, counterparts: Mapping[str, Counterpart]):
        self._model = model
        self._counterparts = counterparts
        self._names = {module: name for name, module in model.named_modules()}
        self._graph = tp.DependencyGraph().build_dependency(
            model, x, unwrapped_parameters=_free_parameters(model)
        )

    def groups(self) -> dict[str, list[Channel]]:
        """All groups by their root: what goes with every single channel of it."""
        found = {}
        for group in self._graph.get_all_groups(ignored_layers=[classifier(self._model)]):
            root = group[0].dep.target.module
            found[self._names[root]] = self._channels(group)
        return found

    def units(self, name: str, removed: Sequence[Sequence[int]]) -> list[Channel]:
        """What goes with each lot of a layer's output channels that are removed at once."""
        layer = self._model.get_submodule(name)
        prune = self._graph.get_pruner_of_module(layer).prune_out_channels
        groups = (self._graph.get_pruning_group(layer, prune, list(lot)) for lot in removed)
        return [frozenset(self._slots(group)) for group in groups]

    def _channels(self, group: Any) -> list[Channel]:
        """A group with all indices, taken apart into what goes with each of its root's channels.

        Every index comes with the root's index that led to it. Where several led
        to the same one, only the first is there, and the library is asked anew.
        """
        roots = sorted(group[0].idxs)
        if any(sorted(item.root_idxs) != roots for item in group if self._tensors(item.dep)):
            return self._one_by_one(group[0].dep, roots)
        channels: dict[int, set[Slot]] = {root: set() for root in roots}
        for item in group:
            for root, index in zip(item.root_idxs, item.idxs, strict=True):
                channels[root].update(self._places(item.dep, [index]))
        return [frozenset(channel) for channel in channels.values()]

    def _one_by_one(self, dep: Any, roots: Sequence[int]) -> list[Channel]:
        """What goes with each of the root's channels, once for those that go together."""
        channels: list[Channel] = []
        seen: set[Slot] = set()
        for root in roots:
            if seen.isdisjoint(self._places(dep, [root])):
                channels += self.units(self._names[dep.target.module], [[root]])
                seen |= channels[-1]
        return channels

    def _slots(self, group: Any) -> Iterator[Slot]:
        for dep, indices in group:
            yield from self._places(dep, indices)

    def _places(self, dep: Any, indices: Sequence[int]) -> Iterator[Slot]:
        for name, axis in self._tensors(dep):
            counterpart = self._counterparts[name]
            for index in indices:
                yield counterpart.name, counterpart.axes[axis], index

    def _tensors(self, dep: Any) -> list[tuple[str, int]]:
        return tensors_of(dep, self._graph, self._names, self._model)


def tensors_of(
    dep: Any, graph: Any, names: Mapping[nn.Module, str], model: nn.Module
) -> list[tuple[str, int]]:
    """Names and axes of the arrays that one step of a removal cuts; none for a mere operation."""
    module = dep.target.module
    if isinstance(module, nn.Parameter):
        name = next(name for name, each in model.named_parameters() if each is module)
        return [(name, dep.target.pruning_dim % module.ndim)]
    if module not in names:
        return []
    name = names[module]
    if isinstance(module, nn.Conv2d | nn.Linear) and not graph.is_out_channel_pruning_fn(
        dep.handler
    ):
        return [(f"{name}.weight", 1)]
    arrays = [leaf for leaf, array in module.state_dict().items() if array.ndim > 0]
    return [(f"{name}.{leaf}", 0) for leaf in arrays]


def classifier(model: nn.Module) -> nn.Linear:
    """The last layer, whose outputs are the logits."""
    return model.get_submodule("fc" if isinstance(model, ResNet50) else "head")  # pyright: ignore[reportReturnType]


def attentions(model: nn.Module) -> dict[str, Attention | FusedAttention]:
    """All attention layers by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Attention | FusedAttention)
    }


def attention_units(model: nn.Module, graph: DepGraph) -> dict[str, list[Channel]]:
    """What Torch-Pruning removes of attention once it is told the number of heads.

    Whole heads, and the same place within every head: its pruner's arguments
    ``prune_num_heads`` and ``prune_head_dims``.
    """
    found = {}
    for name, attention in attentions(model).items():
        root = next(each for each, m in model.named_modules() if m is attention.projections[0])
        total = attention.projections[0].out_features * len(attention.projections) // 3
        width = total // attention.heads
        heads = [range(h * width, (h + 1) * width) for h in range(attention.heads)]
        found[f"{name} (heads)"] = graph.units(root, heads)
        found[f"{name} (width)"] = graph.units(root, [range(d, total, width) for d in range(width)])
    return found


class Pruned(NamedTuple):
    """A network that Torch-Pruning has made smaller.

    Attributes:
      model: it.
      masked: the original with zeros in place of what was removed.
      macs, params: of ``model``.
    """

    model: nn.Module
    masked: nn.Module
    macs: int
    params: int


def prune(model: nn.Module, x: torch.Tensor, ratio: float, head_ratio: float) -> Pruned:
    """Remove a share of all channels, and of the attention heads, by magnitude; not in place."""
    small, masked = copy.deepcopy(model), copy.deepcopy(model)
    layers = attentions(small).values()
    heads = {p: attention.heads for attention in layers for p in attention.projections}
    pruner = tp.pruner.MagnitudePruner(
        small,
        x,
        importance=tp.importance.MagnitudeImportance(),
        pruning_ratio=ratio,
        ignored_layers=[classifier(small)],
        num_heads=heads,
        prune_num_heads=head_ratio > 0,
        head_pruning_ratio=head_ratio,
        unwrapped_parameters=_free_parameters(small),
        # Its defaults are dictionaries that all its calls share and fill.
        in_channel_groups={},
        out_channel_groups={},
    )
    names = {module: name for name, module in small.named_modules()}
    arrays = masked.state_dict()
    for group in pruner.step(interactive=True):
        for dep, indices in group:
            for name, axis in tensors_of(dep, pruner.DG, names, small):
                arrays[name].index_fill_(axis, torch.tensor(indices), 0)
        group.prune()
    for attention in layers:
        attention.heads = pruner.num_heads[attention.projections[0]]
    return Pruned(small, masked, count_macs(small, x), count_params(small))


def count_macs(model: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of one example, as PyTorch counts operations: two each."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(x)
    return counter.get_total_flops() // 2 // len(x)


def count_params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _free_parameters(model: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """Parameters that belong to no layer, with the axis of their channels."""
    return [(parameter, parameter.ndim - 1) for parameter in model.parameters(recurse=False)]
