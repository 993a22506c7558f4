"""As ``tests.support.derivations``: dense connections, channel shuffle, U-Net, attention and
mixing."""

from collections import Counter

import numpy as np

from tests.support.derivations import Derivation, Network


def densenet40(net: Derivation) -> None:
    """Section 4 of arXiv 1608.06993 with k = 12.

    Every layer's 12 channels are concatenated to what is there, and are read by
    all layers behind it in the block and by the transition, whose outputs are new.
    """
    x = net.group(16)
    net.conv(32, 9, 3, x)
    for side, transition in ((32, 16 + 12 * 12), (16, 160 + 12 * 12), (8, None)):
        for _ in range(12):
            new = net.group(12)
            net.conv(side, 9, x, new)
            x += new
        if transition is not None:
            out = net.group(transition)
            net.conv(side, 1, x, out)
            x = out
    net.dense(1, x, 10)


def shufflenet_v2(net: Derivation) -> None:
    """Table 5 and figure 3 of arXiv 1807.11164, with every single channel followed on its way.

    A shuffle and a split reorder channels and tie none. But as half of them
    pass a unit untouched, channels of one layer meet different layers later,
    and only those that meet the same ones are alike: they are a group. One that
    is alone of its kind has to stay, as every group keeps one.
    """
    layers: list[tuple[int, int, np.ndarray | None, np.ndarray]] = []
    made = 0

    def conv(side: int, reads: np.ndarray, width: int) -> np.ndarray:
        nonlocal made
        makes = np.arange(made, made + width)
        made += width
        layers.append((side, 1, reads, makes))
        return makes

    def depthwise(side: int, channels: np.ndarray) -> np.ndarray:
        layers.append((side, 9, None, channels))
        return channels

    def shuffle(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.stack([left, right], axis=1).ravel()

    x = stem = np.arange(24)
    made = 24
    for half, units, side in ((58, 4, 28), (116, 8, 14), (232, 4, 7)):
        left = conv(side, depthwise(side, x), half)
        right = conv(side, depthwise(side, conv(2 * side, x, half)), half)
        x = shuffle(left, right)
        for _ in range(units - 1):
            untouched, y = x[:half], x[half:]
            x = shuffle(untouched, conv(side, depthwise(side, conv(side, y, half)), half))
    last = conv(7, x, 1024)

    met: list[list[int]] = [[] for _ in range(made)]
    for number, (_, _, reads, makes) in enumerate(layers):
        for channel in (*([] if reads is None else reads), *makes):
            met[channel].append(number)
    kinds = list(map(tuple, met))
    sizes = Counter(kinds)
    kept = {kind: net.group(size) if size > 1 else 1 for kind, size in sizes.items()}

    def count(channels: np.ndarray) -> int:
        return sum(kept[kind] for kind in {kinds[channel] for channel in channels})

    net.conv(112, 9, 3, count(stem))
    for side, taps, reads, makes in layers:
        net.conv(side, taps, 1 if reads is None else count(reads), count(makes))
    net.dense(1, count(last), 1000)


def convnext_tiny(net: Derivation) -> None:
    """Figure 4 of arXiv 2201.03545: one stream in a stage, and four times its width in a block.

    Depthwise convolutions are on the stream. LayerNorm sums over channels and
    divides by their number as written; a removed one adds zero to the sums.
    """
    x = 3
    for side, patch, width, blocks in (
        (56, 16, 96, 3),
        (28, 4, 192, 3),
        (14, 4, 384, 9),
        (7, 4, 768, 3),
    ):
        out = net.group(width)
        net.conv(side, patch, x, out)
        x = out
        for _ in range(blocks):
            hidden = net.group(4 * width)
            net.conv(side, 49, 1, x)
            net.conv(side, 1, x, hidden)
            net.conv(side, 1, hidden, x)
    net.dense(1, x, 1000)


def vit_tiny(fused: bool) -> Network:
    """arXiv 2010.11929 in DeiT-tiny's size: 12 blocks of 3 heads of 64 on 14 · 14 + 1 tokens.

    One stream, tied to the class token and the position embeddings. In a block
    whole heads can go, a place in the queries of all heads with the same place
    in the keys, and a place in the values with the rows that read it. In one
    layer for all three their places are the same axis, and go together.
    """

    def derive(net: Derivation) -> None:
        tokens = 14 * 14 + 1
        x = net.group(192)
        net.conv(14, 16 * 16, 3, x)
        for _ in range(12):
            heads, key = net.group(3), net.group(64)
            value = key if fused else net.group(64)
            net.dense(tokens, x, heads * (2 * key + value))
            net.macs += heads * tokens**2 * (key + value)
            net.dense(tokens, heads * value, x)
            hidden = net.group(4 * 192)
            net.dense(tokens, x, hidden)
            net.dense(tokens, hidden, x)
        net.dense(1, x, 1000)

    return derive


def mixer(tokens: int, patch: int, width: int, depth: int, along: int, across: int) -> Network:
    """Equation 1 of arXiv 2105.01601: both hidden widths are free, and nothing else.

    A token is a place of the image. The stream cannot go: mixing along the
    tokens adds the same bias to every channel, so that a masked one is not zero
    where the next LayerNorm sums over it.
    """

    def derive(net: Derivation) -> None:
        net.dense(tokens, 3 * patch**2, width)
        for _ in range(depth):
            hidden = net.group(along)
            net.dense(width, tokens, hidden)
            net.dense(width, hidden, tokens)
            hidden = net.group(across)
            net.dense(tokens, width, hidden)
            net.dense(tokens, hidden, width)
        net.dense(1, width, 1000)

    return derive


def unet(net: Derivation) -> None:
    """Figure 1 of arXiv 1505.04597, padded, on 256 × 256 pixels.

    Every convolution is free. A skip is concatenated to what the transposed
    convolution makes, and read below it as well.
    """
    x, skips = 3, []
    for side, width in ((256, 64), (128, 128), (64, 256), (32, 512), (16, 1024)):
        first, second = net.group(width), net.group(width)
        net.conv(side, 9, x, first)
        net.conv(side, 9, first, second)
        x = second
        skips.append((side, width, second))
    for side, width, skip in reversed(skips[:-1]):
        up, first, second = map(net.group, (width, width, width))
        net.conv(side // 2, 4, x, up)  # every pixel below becomes 2×2
        net.conv(side, 9, skip + up, first)
        net.conv(side, 9, first, second)
        x = second
    net.conv(256, 1, x, 2)
