"""Normalisations that were folded into convolutions are put back, and training has them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import pfrl
from pfrl.graph import trace
from pfrl.models.onnx import source as onnx_source
from pfrl.models.onnx.reader import read
from pfrl.models.onnx.source import for_images
from pfrl.models.onnx.unfold import settled, unfolded
from tests.support.torch_networks import SIZE
from tests.support.torch_networks import exported as export

IMAGE = (SIZE, SIZE, 3)


class Net(nn.Module):
    """Convolutions of all kinds: plain, grouped, with a residual, in a squeeze-and-excite."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.deep_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.last, self.last_norm = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        y = self.last_norm(self.last(torch.relu(self.deep_norm(self.deep(x)))))
        s = y.mean((2, 3), keepdim=True)
        y = y * torch.sigmoid(self.excite(torch.relu(self.squeeze(s))))
        return self.head((x + y).mean((2, 3)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, Path]:
    """A network with random statistics, with its normalisations folded and as they are."""
    torch.manual_seed(0)
    net = Net().eval()
    for norm in (net.norm, net.deep_norm, net.last_norm):
        for array in norm.state_dict().values():
            if array.is_floating_point():
                array.copy_(torch.rand_like(array) + 0.5)
    folder = tmp_path_factory.mktemp("exported")
    return {
        name: export(net, folder / f"{name}.onnx", how)
        for name, how in {"folded": "fold", "whole": "keep"}.items()
    }


def images(count=256, seed=0):
    return np.random.default_rng(seed).normal(0.3, 1.5, (count, *IMAGE)).astype(np.float32)


def batches():
    return iter(np.split(images(), 4))


def test_only_what_was_folded_is_put_back(exported):
    file = read(exported["folded"])
    whole = unfolded(file)
    norms = [node for node in whole.nodes if node.op == "BatchNormalization"]
    # Not in the squeeze-and-excite, whose convolutions see one place an image.
    assert [norm.name for norm in norms] == [
        f"/{name}/norm/BatchNormalization" for name in ("first", "deep", "last")
    ]
    assert unfolded(read(exported["whole"])).nodes == read(exported["whole"]).nodes


def test_it_computes_what_it_did_and_its_statistics_are_those_of_the_images(exported):
    plain, known = (for_images(read(exported["folded"]), IMAGE, each) for each in (None, batches))
    assert "first.norm.mean" in known.variables and "first.norm.mean" not in known.trainable
    assert "first.bias" in plain.variables and "first.bias" not in known.variables
    x = images(32, seed=1)
    ours, theirs = (
        jax.jit(source.apply, static_argnums=2)(source.variables, x, False)[0]
        for source in (known, plain)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    # One batch of all images: training computes the same, and leaves the statistics where they are.
    everything = images()
    trained, statistics = jax.jit(known.apply, static_argnums=2)(known.variables, everything, True)
    evaluated = jax.jit(plain.apply, static_argnums=2)(plain.variables, everything, False)[0]
    np.testing.assert_allclose(trained, evaluated, rtol=1e-3, atol=1e-3)
    assert len(statistics) == 6
    for name, value in statistics.items():
        np.testing.assert_allclose(value, known.variables[name], rtol=1e-3, atol=1e-4)


def test_statistics_are_found_again_by_the_next_start(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path))
    made = []
    monkeypatch.setattr(onnx_source, "settled", lambda *a: made.append(a[2]) or settled(*a))
    file = read(exported["folded"])
    first, again, other = (
        for_images(file, IMAGE, each)
        for each in (batches, batches, lambda: iter([2 * x for x in batches()]))
    )
    assert len(made) == 2  # of the same images once, and of others
    for name, value in first.variables.items():
        np.testing.assert_array_equal(again.variables[name], value)
    assert np.any(other.variables["first.norm.mean"] != first.variables["first.norm.mean"])


def test_statistics_of_a_file_that_has_them_follow_the_batch(exported):
    source = pfrl.from_onnx(exported["whole"], channels_last=True)
    mean = np.asarray(source.variables["norm.mean"])
    x = images(16)
    _, after = jax.jit(source.apply, static_argnums=2)(source.variables, x, True)
    raw = jax.lax.conv_general_dilated(
        jnp.asarray(x), source.variables["first.kernel"], (1, 1), [(1, 1)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    expected = 0.9 * mean + 0.1 * np.asarray(raw).mean((0, 1, 2))
    np.testing.assert_allclose(after["norm.mean"], expected, rtol=1e-4)
    assert len(after) == 6


def test_its_channels_go_with_their_normalisation(exported):
    source = for_images(read(exported["folded"]), IMAGE, batches)
    graph = trace(source, jax.ShapeDtypeStruct((1, *IMAGE), np.float32))
    members = {m.parameter for group in graph.groups.values() for m in group.members}
    assert {"first.norm.scale", "first.norm.mean", "deep.norm.var", "last.norm.bias"} <= members
