"""What can be removed from convolutional networks and what is left of their MACs, by hand.

A derivation walks through a paper's table and writes down two things: every set of channels that
can be removed each by itself but in all places at once, and the multiply-accumulates of every
layer with as many of them as are kept. Nothing here reads a model or a graph.

The rules: a convolution's outputs are free. A sum ties its two sides together, so a residual
stream is one group for as long as it keeps its width. A depthwise convolution, a normalisation,
an activation, a pooling or a flattening hands channels on. A concatenation leaves its parts
separate. The network's input and its output stay whole.
"""

from collections.abc import Callable


class Derivation:
    """Groups and multiply-accumulates of one example, written down layer by layer.

    Attributes:
      sizes: channels of every group, before anything is removed.
      macs: with ``keep(size)`` channels of every group of that size.
    """

    def __init__(self, keep: Callable[[int], int]):
        self.keep = keep
        self.sizes: list[int] = []
        self.macs = 0

    def group(self, size: int) -> int:
        """A new group; returns how many of its channels are kept."""
        self.sizes.append(size)
        return self.keep(size)

    def conv(self, side: int, taps: int, c_in: int, c_out: int) -> None:
        """A convolution to ``side × side`` pixels; a depthwise one has ``c_in`` 1."""
        self.macs += side**2 * taps * c_in * c_out

    def dense(self, places: int, c_in: int, c_out: int) -> None:
        """A linear map at so many places."""
        self.macs += places * c_in * c_out


Network = Callable[[Derivation], None]


def lenet5(net: Derivation) -> None:
    """Every layer but the last; of a channel before the flattening all 5 × 5 places go."""
    first, second, third, fourth = map(net.group, (6, 16, 120, 84))
    net.conv(28, 25, 1, first)
    net.conv(10, 25, first, second)
    net.dense(1, 25 * second, third)
    net.dense(1, third, fourth)
    net.dense(1, fourth, 10)


def cifar(depth: int, shortcut: str | None) -> Network:
    """Section 4.2 of arXiv 1512.03385: 2n layers in each of three stages."""

    def derive(net: Derivation) -> None:
        x = net.group(16)
        net.conv(32, 9, 3, x)
        for stage, (width, side) in enumerate(((16, 32), (32, 16), (64, 8))):
            for block in range((depth - 2) // 6):
                inner = net.group(width)
                if shortcut is None:
                    out = net.group(width)  # no sum, so nothing is tied
                elif stage == 0 or block > 0:
                    out = x  # the sum ties the block's output to its input
                elif shortcut == "A":
                    # The narrower stream is the middle of the wider one and goes with it; where
                    # the shortcut adds zeros, there are as many channels again, and new ones.
                    out = x + net.group(width // 2)
                else:
                    out = net.group(width)  # tied to the shortcut's 1×1 convolution only
                    net.conv(side, 1, x, out)
                net.conv(side, 9, x, inner)
                net.conv(side, 9, inner, out)
                x = out
        net.dense(1, x, 10)

    return derive


def pose8(net: Derivation) -> None:
    """The stages of depth 8, and a 1 × 1 convolution to ten maps instead of the dense layer."""
    stream, inner = net.group(16), net.group(16)
    net.conv(32, 9, 3, stream)
    net.conv(32, 9, stream, inner)
    net.conv(32, 9, inner, stream)
    for side, width in ((16, 32), (8, 64)):
        wider, inner = stream + net.group(width // 2), net.group(width)
        net.conv(side, 9, stream, inner)
        net.conv(side, 9, inner, wider)
        stream = wider
    net.conv(8, 1, stream, 10)


def vgg16(net: Derivation) -> None:
    """Column D of arXiv 1409.1556, table 1: a chain, of which every link is free."""
    x = 3
    for side, width, layers in (
        (224, 64, 2),
        (112, 128, 2),
        (56, 256, 3),
        (28, 512, 3),
        (14, 512, 3),
    ):
        for _ in range(layers):
            out = net.group(width)
            net.conv(side, 9, x, out)
            x = out
    first, second = net.group(4096), net.group(4096)
    net.dense(1, 7 * 7 * x, first)
    net.dense(1, first, second)
    net.dense(1, second, 1000)


def imagenet_resnet(blocks: tuple[int, ...], bottleneck: bool) -> Network:
    """Table 1 of arXiv 1512.03385, with the stride at the 3×3 convolutions.

    The stem's 64 channels are the first stream in a network of basic blocks,
    whose first shortcut is an identity; before bottlenecks, which widen the
    stream to 256, they are a group of their own.
    """

    def derive(net: Derivation) -> None:
        x, c_in = net.group(64), 64
        net.conv(112, 49, 3, x)
        for stage, depth in enumerate(blocks):
            width, side = 64 * 2**stage, 56 // 2**stage
            c_out = 4 * width if bottleneck else width
            for block in range(depth):
                before = 2 * side if stage > 0 and block == 0 else side
                out = x
                if c_in != c_out:
                    out = net.group(c_out)
                    net.conv(side, 1, x, out)
                first = net.group(width)
                if bottleneck:
                    second = net.group(width)
                    net.conv(before, 1, x, first)
                    net.conv(side, 9, first, second)
                    net.conv(side, 1, second, out)
                else:
                    net.conv(side, 9, x, first)
                    net.conv(side, 9, first, out)
                x, c_in = out, c_out
        net.dense(1, x, 1000)

    return derive


def mobilenet_v1(net: Derivation) -> None:
    """Table 1 of arXiv 1704.04861: a chain of 1×1 convolutions, the depthwise ones between them."""
    x, side = net.group(32), 112
    net.conv(side, 9, 3, x)
    for width, stride in (
        *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
        *((512, 1),) * 5,
        *((1024, 2), (1024, 1)),
    ):
        side //= stride
        net.conv(side, 9, 1, x)
        out = net.group(width)
        net.conv(side, 1, x, out)
        x = out
    net.dense(1, x, 1000)


def inverted_residuals(stages: tuple[tuple[int, int, int, int, int], ...]) -> Network:
    """Stages of (depthwise side, expansion, channels, blocks, stride) between 32 and 1280 channels.

    All blocks of a stage add to one stream of narrow channels, and what a
    block widens to is its own. The first block does not widen: its depthwise
    convolution is on the stem's channels.
    """

    def derive(net: Derivation) -> None:
        x, c_in, side = net.group(32), 32, 112
        net.conv(side, 9, 3, x)
        for kernel, expansion, channels, blocks, stride in stages:
            stream = net.group(channels)
            for block in range(blocks):
                hidden = x
                if expansion > 1:
                    hidden = net.group(expansion * c_in)
                    net.conv(side, 1, x, hidden)
                side = side // stride if block == 0 else side
                net.conv(side, kernel**2, 1, hidden)
                net.conv(side, 1, hidden, stream)
                x, c_in = stream, channels
        last = net.group(1280)
        net.conv(side, 1, x, last)
        net.dense(1, last, 1000)

    return derive


# Table 2 of arXiv 1801.04381.
mobilenet_v2 = inverted_residuals((
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (3, 6, 32, 3, 2),
    (3, 6, 64, 4, 2),
    (3, 6, 96, 3, 1),
    (3, 6, 160, 3, 2),
    (3, 6, 320, 1, 1),
))  # fmt: skip

# Table 1 of arXiv 1905.11946.
efficientnet_lite0 = inverted_residuals((
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
))  # fmt: skip


def mobilenet_v3_small(net: Derivation) -> None:
    """Table 2 of arXiv 1905.02244.

    The gate of squeeze-and-excite multiplies the widened channels: what its
    second layer makes goes with them, and what its first makes is free.
    """
    x, c_in, side = net.group(16), 16, 112
    net.conv(side, 9, 3, x)
    # Depthwise side, expanded, squeezed (a quarter of it in multiples of 8, or none), channels,
    # stride.
    for kernel, expanded, squeezed, channels, stride in (
        (3, 16, 8, 16, 2),
        (3, 72, 0, 24, 2),
        (3, 88, 0, 24, 1),
        (5, 96, 24, 40, 2),
        (5, 240, 64, 40, 1),
        (5, 240, 64, 40, 1),
        (5, 120, 32, 48, 1),
        (5, 144, 40, 48, 1),
        (5, 288, 72, 96, 2),
        (5, 576, 144, 96, 1),
        (5, 576, 144, 96, 1),
    ):
        hidden = x
        if expanded != c_in:
            hidden = net.group(expanded)
            net.conv(side, 1, x, hidden)
        side //= stride
        net.conv(side, kernel**2, 1, hidden)
        if squeezed:
            middle = net.group(squeezed)
            net.dense(1, hidden, middle)
            net.dense(1, middle, hidden)
        out = x if stride == 1 and channels == c_in else net.group(channels)
        net.conv(side, 1, hidden, out)
        x, c_in = out, channels
    last, wide = net.group(576), net.group(1024)
    net.conv(side, 1, x, last)
    net.dense(1, last, wide)
    net.dense(1, wide, 1000)


def squeezenet(net: Derivation) -> None:
    """SqueezeNet 1.1: three free convolutions in a fire module, two of them side by side."""
    x = net.group(64)
    net.conv(111, 9, 3, x)
    for side, widths in ((55, (16, 16)), (27, (32, 32)), (13, (48, 48, 64, 64))):
        for width in widths:
            squeezed, left, right = net.group(width), net.group(4 * width), net.group(4 * width)
            net.conv(side, 1, x, squeezed)
            net.conv(side, 1, squeezed, left)
            net.conv(side, 9, squeezed, right)
            x = left + right
    net.conv(13, 1, x, 1000)


def googlenet(net: Derivation) -> None:
    """Table 1 of arXiv 1409.4842, 3×3 for 5×5: six free convolutions in a module."""
    stem, middle, x = map(net.group, (64, 64, 192))
    net.conv(112, 49, 3, stem)
    net.conv(56, 1, stem, middle)
    net.conv(56, 9, middle, x)
    for side, *widths in (
        (28, 64, 96, 128, 16, 32, 32),
        (28, 128, 128, 192, 32, 96, 64),
        (14, 192, 96, 208, 16, 48, 64),
        (14, 160, 112, 224, 24, 64, 64),
        (14, 128, 128, 256, 24, 64, 64),
        (14, 112, 144, 288, 32, 64, 64),
        (14, 256, 160, 320, 32, 128, 128),
        (7, 256, 160, 320, 32, 128, 128),
        (7, 384, 192, 384, 48, 128, 128),
    ):
        single, reduce2, branch2, reduce3, branch3, pooled = map(net.group, widths)
        for out in (single, reduce2, reduce3, pooled):
            net.conv(side, 1, x, out)
        net.conv(side, 9, reduce2, branch2)
        net.conv(side, 9, reduce3, branch3)
        x = single + branch2 + branch3 + pooled
    net.dense(1, x, 1000)
