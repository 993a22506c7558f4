"""A LiteRT file of one layer, written by hand."""

import numpy as np

from pfrl.deploy.litert.flatbuffer import FlatModel


def dense(kernel: np.ndarray) -> bytes:
    """A network ``images [N, I] -> relu(images @ kernel) [N, O]`` with ``kernel`` ``[I, O]``."""
    model = FlatModel()
    size_in, size_out = kernel.shape
    images = model.tensor("images", (1, size_in), "float32")
    weight = model.constant("weight", kernel.T.astype(np.float32))
    logits = model.tensor("logits", (1, size_out), "float32")
    model.operator(
        "FULLY_CONNECTED",
        [images, weight, -1],
        [logits],
        "FullyConnectedOptions",
        fusedActivationFunction=1,
    )
    strings = {"classes": "a, b", "empty": ""}
    return model.written(("images", images), {"logits": logits}, strings).content
