"""One file of a user's brings a method of every kind, and the commands use them all by name."""

import json

import pytest

from experiments import cli
from experiments.records.history import read_history
from tests.house.test_own_methods import CRITERION, QUANTIZER, REPAIR

REST = '''
import dataclasses

from agents.base import play
from pfrl.cost.metrics import Metric


def kernels_kept(costs, at):
    """Channels that stay, of all groups."""
    return sum(at.counts.values())


@pfrl.register("reward", "frugal")
def frugal(evaluation, base):
    """Accuracy less a tenth of the channels that are left."""
    return evaluation.accuracy - 0.1 * evaluation.costs["channels"] / base.costs["channels"]


@pfrl.register("agent", "halves")
def search_halves(env, episodes, seed, options, tensorboard):
    """The same action at every step, from the lowest to the highest."""
    for level in np.linspace(-1, 1, episodes):
        play(env, lambda observation: np.full(env.knobs, level, np.float32))


@pfrl.register("dataset", "light_digits")
def light_digits():
    """The digits in negative."""
    data = pfrl.load_data("digits")
    light = dataclasses.replace(data.train, images=255 - data.train.images)
    return dataclasses.replace(data, name="light_digits", train=light)


pfrl.register("metric", "channels", Metric(kernels_kept, monotone=True, noun="channels"))
'''
PLUGIN = CRITERION + REPAIR + QUANTIZER + REST
OWN = """--model lenet5 --data light_digits --recipe.criterion early --recipe.repair louder
 --recipe.weights signs --recipe.images 64 --knobs keep weight_bits --episode.validation xla
 --episode.batch 32 --episode.search-images 60 --episode.statistics-images 32 --episode.steps 1
 --round-to 1 --episodes 3""".split()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Options that bring the file, and weights of a network for its data set."""
    folder = tmp_path_factory.mktemp("everything")
    path, weights = folder / "everything.py", folder / "weights.npz"
    path.write_text(PLUGIN)
    train = "--model lenet5 --data light_digits --epochs 0.05 --out".split()
    assert cli.main(["pretrain", "--plugin", str(path), *train, str(weights)]) == 0
    return ["--plugin", str(path), "--weights", str(weights), *OWN]


def test_compress_uses_all_of_them(own, tmp_path):
    finish = """--finish.epochs 0.05 --finish.seconds 0.1 --finish.candidates 1
 --finish.rescore-steps 1 --agent halves --reward frugal
 --target channels=0.5""".split()
    assert cli.main(["compress", *own, *finish, "--out", str(tmp_path / "run")]) == 0
    lines = read_history(tmp_path / "run/history.jsonl")
    base = json.loads((tmp_path / "run/report.json").read_text())["budget"]["base"]
    for line in lines:
        assert line["costs"]["channels"] <= base / 2
        paid = line["accuracy"] - 0.1 * line["costs"]["channels"] / base
        assert line["reward"] == pytest.approx(paid)
    assert (tmp_path / "run/model.onnx").is_file()


@pytest.mark.ci
def test_workers_of_a_sweep_use_all_of_them(own, tmp_path):
    sweep = """--reward frugal --agents halves random --targets channels=0.5 --seeds 0
 --tuning-images 64 --workers 2""".split()
    assert cli.main(["sweep", *own, *sweep, "--out", str(tmp_path / "sweep")]) == 0
    lines = read_history(tmp_path / "sweep/results.jsonl")
    assert {line["agent"] for line in lines} == {"halves", "random"}
    assert all(line["cost"] <= line["limit"] for line in lines)
