"""What is to be done to a network: shares of channels and weights that stay, and bit widths."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pfrl.graph import Graph, Group
from pfrl.methods.quantization.uniform import FLOAT_BITS


class PolicyError(ValueError):
    """A policy that does not fit the network, or is no policy; the message says what is wrong."""


@dataclass(frozen=True)
class Policy:
    """Plain data; JSON in and out.

    Attributes:
      keep: share of every group's channels that stays, in (0, 1].
      weight_bits: by layer, of the kernel: 2 to 8, or 32 for float; of a codebook 1 too.
      act_bits: by layer, of its input: 2 to 8, or 32 for float.
      round_to: kept channels are a multiple of this, where the group is large enough.
      sparsity: by layer, share of the kernel's remaining weights that are zero, in
        [0, 1); layers that are not named are dense.
    """

    keep: Mapping[str, float] = field(default_factory=dict)
    weight_bits: Mapping[str, int] = field(default_factory=dict)
    act_bits: Mapping[str, int] = field(default_factory=dict)
    round_to: int = 1
    sparsity: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def uniform(
        cls,
        graph: Graph,
        keep: float = 1.0,
        weight_bits: int = FLOAT_BITS,
        act_bits: int = FLOAT_BITS,
        round_to: int = 1,
    ) -> "Policy":
        """The same share for every group and the same bit widths for every layer.

        Args:
          graph: of the network.
          keep: share of the channels that stay, above 0, at most 1.
          weight_bits: of every kernel, 1 to 8, or 32 for floats.
          act_bits: of what goes into every layer, 2 to 8, or 32.
          round_to: kept channels are multiples of this, in groups larger than it.

        Raises:
          PolicyError: if a value is out of its bounds.
        """
        return cls(
            dict.fromkeys(graph.groups, keep),
            {layer.name: weight_bits for layer in graph.layers},
            {layer.name: act_bits for layer in graph.layers},
            round_to,
        ).checked(graph)

    def with_edges(self, graph: Graph, bits: int) -> "Policy":
        """With so many bits in the first and the last layer, where these have fewer.

        What they read and make decides about everything else (HAQ, arXiv 1811.08886).
        """
        edges = {graph.layers[0].name, graph.layers[-1].name}
        weight_bits, act_bits = (
            {name: max(own, bits) if name in edges else own for name, own in values.items()}
            for values in (self.weight_bits, self.act_bits)
        )
        return dataclasses.replace(self, weight_bits=weight_bits, act_bits=act_bits)

    def counts(self, graph: Graph) -> dict[str, int]:
        """Channels that every group keeps: at least one, rounded to ``round_to``."""
        return {
            name: round_count(
                self.keep[name] * group.size, group.size, step_of(group, self.round_to)
            )
            for name, group in graph.groups.items()
        }

    def checked(self, graph: Graph) -> "Policy":
        """Itself, if it names exactly the graph's groups and layers and all values are in range.

        Raises:
          PolicyError: otherwise.
        """
        layers = [layer.name for layer in graph.layers]
        for what, values, names in (
            ("keep", self.keep, list(graph.groups)),
            ("weight_bits", self.weight_bits, layers),
            ("act_bits", self.act_bits, layers),
        ):
            strange, missing = set(values) - set(names), set(names) - set(values)
            if strange or missing:
                example = min(strange or missing)
                problem = "is not in the network" if strange else "is missing"
                raise PolicyError(
                    f"the policy's '{what}' does not fit the network: '{example}' {problem};"
                    " make the policy for this model"
                )
        for name, share in self.keep.items():
            if not 0 < share <= 1:
                raise PolicyError(f"keep share of '{name}' is {share}; expected a number in (0, 1]")
        for values, least in ((self.weight_bits, 1), (self.act_bits, 2)):
            for name, bits in values.items():
                if not least <= bits <= 8 and bits != FLOAT_BITS:
                    raise PolicyError(
                        f"'{name}' has {bits} bits; expected {least} to 8, or 32 for float"
                    )
        for name, share in self.sparsity.items():
            if name not in layers:
                raise PolicyError(
                    f"the policy's 'sparsity' does not fit the network: '{name}' is not in the"
                    " network; make the policy for this model"
                )
            if not 0 <= share < 1:
                raise PolicyError(f"sparsity of '{name}' is {share}; expected a number in [0, 1)")
        if self.round_to < 1:
            raise PolicyError(f"round_to is {self.round_to}; expected a whole number from 1")
        return self

    def to_json(self) -> dict[str, Any]:
        return {
            field.name: dict(value) if isinstance(value, Mapping) else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }

    @classmethod
    def from_json(cls, value: Any) -> "Policy":
        """The policy that ``to_json`` wrote.

        Raises:
          PolicyError: if ``value`` is none.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        # Policies that were written before there was sparsity have none.
        complete = {"sparsity": {}, **value} if isinstance(value, dict) else {}
        if set(complete) != set(names) or not _is_plain(complete):
            raise PolicyError(f"expected a policy with {', '.join(names)}; got {str(value)[:80]}")
        return cls(**complete)


def _is_plain(value: Mapping[str, Any]) -> bool:
    """Whether ``round_to`` is a whole number and the other fields map names to numbers."""
    return isinstance(value["round_to"], int) and all(
        isinstance(values, dict) and all(isinstance(v, int | float) for v in values.values())
        for name, values in value.items()
        if name != "round_to"
    )


def step_of(group: Group, round_to: int) -> int:
    """What a group's count is a multiple of; heads are few, and any number of them will do."""
    return round_to if group.kind == "channels" else 1


def round_count(count: float, size: int, round_to: int) -> int:
    """The nearest multiple of ``round_to`` in [1, size]; ``size`` itself if all are asked for.

    Groups of at most ``round_to`` channels stay whole.
    """
    if count >= size or size <= round_to:
        return size
    rounded = round_to * max(1, round(count / round_to))
    return rounded if rounded <= size else size
