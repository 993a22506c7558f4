"""Convolutions computed by PyTorch's oneDNN on the arrays of a compiled program.

oneDNN is fast at any number of channels, stride, dilation and group, where XLA's CPU backend is at
some alone (figures: docs/results/performance.md). PyTorch brings it, which stable-baselines3 needs
anyhow. Arrays are seen where they are: channels last in memory is what oneDNN likes best.

A convolution here is one of three: of an image, of an image that is dilated (a transposed
convolution, the gradient of a strided one), or of an image with a gradient, which yields a
kernel's gradient. All are float32 or bfloat16, with one to three spatial axes.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from typing import Any, NamedTuple

from pfrl.cpu.foreign import Function
from pfrl.cpu.workers import cores

Pairs = Sequence[tuple[int, int]]
REMEMBERED = 64
"""Addresses at which an array of a program was seen: it lies at few, again and again."""


class Array(NamedTuple):
    """A row-major array, the order in which its axes are looked at, and its type."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    kind: str = "float32"

    @property
    def seen(self) -> tuple[int, ...]:
        """Its shape in that order."""
        return tuple(self.shape[axis] for axis in self.order)

    def viewer(self) -> Callable[[int], Any]:
        """``address -> torch.Tensor`` of the array that lies there."""
        import torch

        count = prod(self.shape)
        kind = getattr(torch, self.kind)
        memory, size = ctypes.c_char * (count * kind.itemsize), self.seen
        strides = tuple(prod(self.shape[axis + 1 :]) for axis in self.order)

        known: dict[int, Any] = {}

        def view(address: int) -> Any:
            found = known.get(address)
            if found is None:
                if len(known) >= REMEMBERED:
                    known.clear()
                flat = torch.frombuffer(memory.from_address(address), dtype=kind)
                found = known[address] = flat.as_strided(size, strides)
            return found

        return view


class Geometry(NamedTuple):
    """Numbers of a convolution, one a spatial axis; ``padding`` low and high."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


def of_image(x: Array, kernel: Array, result: Array, how: Geometry) -> Function:
    """``x`` ``[N, C, ...]`` with ``kernel`` ``[O, C / groups, ...]`` to ``[N, O, ...]``."""
    import torch

    views = _views(x, kernel, result)
    even = all(low == high >= 0 for low, high in how.padding)
    pads = [low if even else 0 for low, _ in how.padding]
    numbers = how.strides, pads, how.dilation, False, [0] * len(pads), how.groups

    def run(arguments: Sequence[int], results: Sequence[int]) -> None:
        image, weight, out = _seen(views, arguments, results)
        image = image if even else _padded(image, how.padding)
        out.copy_(torch.convolution(image, weight, None, *numbers))

    return run


def of_dilated_image(x: Array, kernel: Array, result: Array, how: Geometry) -> Function:
    """The same where ``how.strides`` are the dilation of the image and its own strides are 1.

    It is a transposed convolution with the flipped kernel. Its result is as large as can be;
    ``padding`` says how much of it is wanted.
    """
    import torch

    out_channels, in_channels, *taps = kernel.seen
    reach = [step * (count - 1) for step, count in zip(how.dilation, taps, strict=True)]
    padding = [(low - r, high - r) for r, (low, high) in zip(reach, how.padding, strict=True)]
    less, more = [-low for low, _ in padding], [high - low for low, high in padding]
    even = min(less) >= 0 and all(0 <= m < s for m, s in zip(more, how.strides, strict=True))
    if not even:
        less, more = [0] * len(taps), [0] * len(taps)
    views, groups = _views(x, kernel, result), how.groups
    sides = tuple(range(2, 2 + len(taps)))
    parted = (groups, out_channels // groups, in_channels, *taps)
    turned = (groups * in_channels, out_channels // groups, *taps)
    numbers = how.strides, less, how.dilation, True, more, groups

    def run(arguments: Sequence[int], results: Sequence[int]) -> None:
        image, weight, out = _seen(views, arguments, results)
        weight = weight.flip(sides).reshape(parted).transpose(1, 2).reshape(turned)
        found = torch.convolution(image, weight, None, *numbers)
        out.copy_(found if even else _padded(found, padding))

    return run


def of_kernel(x: Array, gradient: Array, result: Array, how: Geometry, parts: int = 1) -> Function:
    """The gradient of a kernel ``[O, C / groups, ...]``, ``how`` being its convolution's.

    Of an image ``x`` ``[N, C, ...]`` and the gradient ``[N, O, ...]`` of the result. ``padding``
    is that of the convolution, whose pixels that no tap reached are cut away. The images can be
    shared out over threads of ours, in ``parts`` whose sums are added.
    """
    import torch

    backward = torch.ops.aten.convolution_backward.default
    views, size = _views(x, gradient, result), result.seen
    taps, sides = size[2:], gradient.seen[2:]
    even = all(
        low >= 0 and (side + 2 * low - step * (count - 1) - 1) // stride + 1 == after
        for side, (low, _), step, count, stride, after in zip(
            x.seen[2:], how.padding, how.dilation, taps, how.strides, sides, strict=True
        )
    )
    pads = [low if even else 0 for low, _ in how.padding]
    numbers = how.strides, pads, how.dilation, False, [0] * len(taps), how.groups
    like = torch.channels_last if len(taps) == 2 else torch.contiguous_format

    def run(arguments: Sequence[int], results: Sequence[int]) -> None:
        image, change, out = _seen(views, arguments, results)
        image = image if even else _padded(image, how.padding)
        # Of the kernel only the shape is read.
        empty = torch.empty(size, dtype=change.dtype, memory_format=like)

        def of_part(change: Any, image: Any) -> Any:
            return backward(change, image, empty, None, *numbers, (False, True, False))[1]

        first, *others = zip(change.chunk(parts), image.chunk(parts), strict=True)
        begun = [helpers().submit(on_threads(of_part, 1), *part) for part in others]
        found = of_part(*first)
        for part in begun:
            found += part.result()
        out.copy_(found)

    return run


Views = list[Callable[[int], Any]]


def _views(*arrays: Array) -> Views:
    return [array.viewer() for array in arrays]


def _seen(views: Views, arguments: Sequence[int], results: Sequence[int]) -> list[Any]:
    """The arrays that lie at these addresses."""
    return [view(at) for view, at in zip(views, (*arguments, *results), strict=True)]


def _padded(image: Any, padding: Pairs) -> Any:
    """With zeros around it, or cut where padding is negative; channels stay last in memory."""
    import torch

    pads = [side for pair in reversed(padding) for side in pair]
    found = torch.nn.functional.pad(image, pads)
    return found.contiguous(memory_format=torch.channels_last) if found.ndim == 4 else found


@cache
def helpers() -> ThreadPoolExecutor:
    """Threads that compute parts. They wait for nothing, so that whoever waits for them goes on."""
    return ThreadPoolExecutor(len(cores()), "pfrl-convolution")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    # A forked copy of the process has none of its threads.
    os.register_at_fork(after_in_child=helpers.cache_clear)

_now = threading.local()
_turn = threading.Lock()


def on_threads(function: Callable[..., Any], threads: int) -> Callable[..., Any]:
    """A function that computes with so many of PyTorch's threads.

    Calls that need several take turns: two at a time would wait for each other on every core.
    """
    import torch

    def limited(*arguments: Any) -> Any:
        if getattr(_now, "threads", None) != threads:
            torch.set_num_threads(threads)
            _now.threads = threads
        if threads == 1:
            return function(*arguments)
        with _turn:
            return function(*arguments)

    return limited
