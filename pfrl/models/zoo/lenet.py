"""LeNet-5 (LeCun et al. 1998, Gradient-based learning applied to document recognition)."""

import jax
from flax import nnx

from pfrl.models.zoo.layers import Factory

SMALL_IMAGE = 16
"""Below this many pixels a side, the second convolution pads too, or little would be left."""


class LeNet5(nnx.Module):
    """Two 5×5 convolutions with ReLU and 2×2 max pooling, then dense layers of 120, 84 and K.

    The layout in use today: ReLU for tanh, max pooling for the trainable
    subsampling, a softmax for the radial basis functions, and padding 2 on the
    first convolution in place of 32×32 frames. Images of less than 16 pixels a
    side are padded by the second convolution as well.

    Args:
      num_classes: K, the width of the logits.
      image_shape: ``(H, W, C)`` of the images ``[N, H, W, C]``, H and W 4 or more.

    Raises:
      ValueError: if the images are smaller.
    """

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int], *, rngs: nnx.Rngs):
        height, width, channels = image_shape
        if min(height, width) < 4:
            raise ValueError(
                f"LeNet-5 needs images of 4x4 pixels or more, got {width}x{height};"
                " choose another network or larger images"
            )
        padding = 2 if min(height, width) < SMALL_IMAGE else 0
        self.conv1 = nnx.Conv(channels, 6, (5, 5), padding=2, rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding=padding, rngs=rngs)
        rows, columns = ((side // 2 - 4 + 2 * padding) // 2 for side in (height, width))
        self.linear1 = nnx.Linear(16 * rows * columns, 120, rngs=rngs)
        self.linear2 = nnx.Linear(120, 84, rngs=rngs)
        self.linear = nnx.Linear(84, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in (self.conv1, self.conv2):
            x = nnx.max_pool(jax.nn.relu(conv(x)), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = jax.nn.relu(self.linear1(x))
        x = jax.nn.relu(self.linear2(x))
        return self.linear(x)


def _lenet5(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
    return LeNet5(num_classes, image_shape, rngs=rngs)


MODELS: dict[str, Factory] = {"lenet5": _lenet5}
"""Factories by name."""
