"""``pfrl export``: a finished run's network in every format, with its own numbers or others."""

import jax
import numpy as np
import pytest

from experiments import cli
from experiments.settings.blocks import SettingsError
from experiments.settings.files import ExportSettings
from pfrl.compression.saved import load
from pfrl.data import load as load_data
from pfrl.deploy.runtimes import litert
from pfrl.deploy.runtimes.sessions import open_session
from tests.experiments.test_apply import QUICK


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose network is narrow, sparse and rounded to 8 bits."""
    folder = tmp_path_factory.mktemp("run") / "a"
    words = ["--keep", "0.5", "--bits", "8", "--sparsity", "0.3"]
    assert cli.main([*QUICK, *words, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def images():
    data = load_data("digits")
    return data.normalize(data.search.images[:200])


def test_the_same_network_again(run, images):
    formats = ["onnx", "packed", "jax", *(["litert"] if litert.installed() else [])]
    assert cli.main(["export", str(run), "--format", *formats]) == 0
    out = run / "export"
    before = open_session(run / "model.onnx").logits(images)
    np.testing.assert_array_equal(open_session(out / "model.onnx").logits(images), before)
    assert (out / "model.packed").read_bytes() == (run / "model.packed").read_bytes()
    answers = np.asarray(jax.jit(load(out / "model.jax"))(images))
    assert (answers.argmax(-1) == before.argmax(-1)).mean() > 0.97


@pytest.mark.slow
def test_in_float_and_rounded_again(run, images, tmp_path, capsys):
    place = ["--out", str(tmp_path / "float")]
    assert cli.main(["export", str(run), "--bits", "32", *place]) == 0
    real = tmp_path / "float" / "model.onnx"
    assert real.stat().st_size > 1.5 * (run / "model.onnx").stat().st_size
    before = open_session(run / "model.onnx").logits(images)
    floats = open_session(real).logits(images)
    assert (floats.argmax(-1) == before.argmax(-1)).mean() > 0.9
    capsys.readouterr()
    assert cli.main(["export", str(run), "--bits", "8", "--out", str(tmp_path / "eight")]) == 0
    assert "names the same class as the run's network for" in capsys.readouterr().err
    eight = open_session(tmp_path / "eight" / "model.onnx").logits(images)
    assert (eight.argmax(-1) == floats.argmax(-1)).mean() > 0.95
    assert (tmp_path / "eight" / "model.onnx").stat().st_size < 0.6 * real.stat().st_size


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["nowhere", "--bits", "16"], "bits is 2 to 8, or 32 for float; got 16"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, capsys):
    assert cli.main(["export", *words]) == cli.USER_ERROR
    assert sentence in capsys.readouterr().err


def test_no_format():
    with pytest.raises(SettingsError, match="no format to write"):
        ExportSettings(run_dir=cli.Path("x"), format=()).resolved()
