"""Tuning: the defaults come first, what is stopped goes on, the test split is read once."""

import dataclasses
import json

import numpy as np
import pytest

from envs.task import load_network
from experiments import cli
from experiments.run.inputs import find_weights
from experiments.settings.blocks import NetworkBlock, SettingsError, SpaceBlock
from experiments.studies.tune import trials as tune
from experiments.studies.tune.pipeline import LOOKS, Pipeline
from experiments.studies.tune.report import tuning_figure
from experiments.studies.tune.settings import TuneSettings
from experiments.studies.tune.space import DEFAULTS, GROUPS, Name, applicable, parameters_of
from pfrl.compression.policy import Policy
from pfrl.tasks import Classification
from pfrl.training.fit import Diverged


def settings(out, **changes) -> TuneSettings:
    return dataclasses.replace(TuneSettings(trials=8, steps=8, batch=16, out=out), **changes)


@pytest.fixture(scope="module")
def network():
    return load_network("resnet8", "digits", str(find_weights(NetworkBlock())))


@pytest.fixture
def made_up(monkeypatch):
    """Trainings that take no time: the best learning rate is twice the default.

    The list says what was trained, by its learning rate.
    """
    trained = []

    def train(self, values, look=lambda *_: None, progress=lambda *_: None):
        trained.append(values["learning_rate"])
        error = abs(np.log(values["learning_rate"] / 0.04))
        quality = float(0.9 * np.exp(-error))
        for number in range(1, LOOKS + 1):
            look(number * self.steps // LOOKS, quality * number / LOOKS)
        return {"rate": values["learning_rate"]}, quality

    def qualities(self, values, variables, split):
        return np.arange(len(split)) % 10 < 9 * np.exp(-abs(np.log(variables["rate"] / 0.04)))

    monkeypatch.setattr(Pipeline, "train", train)
    monkeypatch.setattr(Pipeline, "qualities", qualities)
    return trained


def without_clock(path):
    result = json.loads((path / "tune.json").read_text())
    for trial in (*result["trials"], result["default"], result["best"]):
        del trial["seconds"]
        trial.pop("job_seconds", None)
    return {name: result[name] for name in ("trials", "default", "best", "beaten_at", "test")}


def test_a_whole_pipeline_is_trained_and_judged(network, tmp_path):
    page = tune.run(settings(tmp_path / "run", trials=2, tune=("lr", "distillation")))
    result = json.loads((page.parent / "tune.json").read_text())
    first, second = result["trials"]
    assert first["default"] and first["values"] == {
        name: DEFAULTS[name] for name in ("learning_rate", "distillation_weight", "temperature")
    }
    assert second["values"]["learning_rate"] != first["values"]["learning_rate"]
    assert all(0.5 < trial["quality"] <= 1 for trial in result["trials"])
    assert result["costs"]["compressed"]["macs"] <= result["costs"]["base"]["macs"] / 2
    assert result["test"]["images"] == len(network[0].open_test())
    assert page.name == "tune.md" and "| `temperature` |" in page.read_text()
    assert (page.parent / "tune.png").read_bytes().startswith(b"\x89PNG")


def test_the_defaults_come_first_and_are_beaten(made_up, tmp_path):
    tune.run(settings(tmp_path / "run", trials=10, tune=("lr",)))
    found = without_clock(tmp_path / "run")
    assert made_up[0] == DEFAULTS["learning_rate"] == found["default"]["values"]["learning_rate"]
    assert found["default"]["trial"] == 1 and 1 < found["beaten_at"] <= 10
    assert found["best"]["quality"] == max(t["quality"] for t in found["trials"])
    test = found["test"]
    assert test["best_minus_default"]["difference"] == pytest.approx(test["best"] - test["default"])
    # Trained again for the test, after the trials: the defaults and the best.
    assert made_up[10:] == [DEFAULTS["learning_rate"], found["best"]["values"]["learning_rate"]]


def test_ranks_are_chosen_by_l2_and_counted_against_the_network_before(made_up, tmp_path):
    """A product of matrices in place of every layer between the first and the last one."""
    rank = SpaceBlock(("rank",), decompose="channel", round_to=1)
    tune.run(settings(tmp_path / "run", trials=2, space=rank))
    result = json.loads((tmp_path / "run" / "tune.json").read_text())
    assert "criterion" not in result["default"]["values"]
    assert result["costs"]["compressed"]["macs"] <= result["costs"]["base"]["macs"] / 2
    policy = json.loads((tmp_path / "run" / "policy.json").read_text())
    assert any(share < 1 for share in policy["keep"].values())


def test_the_rank_needs_a_decomposition(tmp_path, capsys):
    assert cli.main(["tune", "--knobs", "rank", "--out", str(tmp_path / "run")]) == cli.USER_ERROR
    assert "the knob rank and --decompose svd, channel or spatial go" in capsys.readouterr().err


def test_what_is_left_in_all_counts_the_trainings_for_the_test(made_up, tmp_path, capsys):
    tune.run(settings(tmp_path / "run", trials=4, tune=("lr",)))
    told = [x for x in capsys.readouterr().err.splitlines() if x.startswith("trials: ")]
    assert " left, " in told[0] and " in all" in told[0]


def test_bad_trials_are_given_up_at_half_of_their_steps(made_up, tmp_path):
    tune.run(settings(tmp_path / "run", trials=16, tune=("lr",), sampler="random"))
    trials = without_clock(tmp_path / "run")["trials"]
    lost = [trial for trial in trials if trial["pruned"]]
    assert lost and {trial["steps"] for trial in lost} <= {4, 6}
    assert {trial["steps"] for trial in trials if not trial["pruned"]} == {8}
    assert not any(trial["pruned"] for trial in trials[:5])


@pytest.mark.parametrize(
    ("sampler", "pruner"), [("tpe", "halving"), pytest.param("gp", "median", marks=pytest.mark.ci)]
)
def test_a_stopped_search_ends_as_one_that_was_not(sampler, pruner, made_up, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    chosen = {"trials": 12, "sampler": sampler, "pruner": pruner, "tune": ("lr", "criterion")}
    tune.run(settings(whole, **chosen))
    train = Pipeline.train

    def stopped(self, values, *rest, **named):
        if len(made_up) == before + 6:
            raise KeyboardInterrupt
        return train(self, values, *rest, **named)

    before = len(made_up)
    monkeypatch.setattr(Pipeline, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune.run(settings(out, **chosen))
    monkeypatch.setattr(Pipeline, "train", train)
    tune.run(settings(out, **chosen))
    assert without_clock(out) == without_clock(whole)


def test_the_test_split_is_not_read_again(made_up, tmp_path):
    tune.run(settings(tmp_path / "run", trials=3, tune=("lr",)))
    played = len(made_up)
    tune.run(settings(tmp_path / "run", trials=3, tune=("lr",)))
    assert len(made_up) == played


def test_a_diverging_trial_is_the_worst(made_up, tmp_path, monkeypatch):
    train = Pipeline.train

    def diverging(self, values, *rest, **named):
        if len(made_up) == 2:
            made_up.append(None)
            raise Diverged("no number")
        return train(self, values, *rest, **named)

    monkeypatch.setattr(Pipeline, "train", diverging)
    page = tune.run(settings(tmp_path / "run", trials=4, tune=("lr",)))
    lost = without_clock(tmp_path / "run")["trials"][2]
    assert (lost["diverged"], lost["quality"]) == (True, 0.0)
    assert "(diverged)" in page.read_text()


def test_what_a_policy_makes_use_of(network):
    _, graph = network
    pruned, whole = Policy.uniform(graph, 0.5), Policy.uniform(graph)
    assert applicable(pruned) == ("lr", "decay", "distillation", "criterion", "repair")
    assert "quantizer" in applicable(Policy.uniform(graph, weight_bits=4, act_bits=4))
    sparse = dataclasses.replace(whole, sparsity={graph.layers[0].name: 0.5})
    assert "sparsity" in applicable(sparse) and "criterion" not in applicable(sparse)
    assert {p.name for p in parameters_of(None, pruned)} < set(DEFAULTS)
    with pytest.raises(SettingsError, match="'quantizer' makes no difference"):
        parameters_of(["quantizer"], pruned)
    for parameter in (p for group in GROUPS.values() for p in group):
        if isinstance(parameter, Name):
            assert parameter.default in parameter.values
        else:
            assert parameter.low <= parameter.default <= parameter.high


@pytest.mark.ci
def test_bits_and_zeros_are_those_of_the_policy(network):
    dataset, graph = network
    names = [layer.name for layer in graph.layers]
    policy = dataclasses.replace(
        Policy.uniform(graph, weight_bits=4), sparsity=dict.fromkeys(names, 0.75)
    )
    pipeline = Pipeline(graph, dataset, policy, steps=4, batch=16, seed=0)
    values = {"weights": "lsq", "quantizer_rate": 0.1, "sparsity_end": 0.5}
    variables, quality = pipeline.train(values)
    kernels = [np.asarray(variables[layer.kernel]) for layer in graph.layers]
    assert [np.mean(kernel == 0) for kernel in kernels] == pytest.approx([0.75] * len(kernels))
    again, same = pipeline.train(values)
    assert same == quality
    assert all(np.array_equal(variables[name], again[name]) for name in variables)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "resnet9"], "unknown model 'resnet9'"),
        (["--target", "flops=0.5"], "unknown metric 'flops'"),
        (["--target", "macs=0.0001"], "cannot be met"),
        (["--trials", "1"], "trials is a whole number from 2"),
        (["--sparsity", "1"], "sparsity is a number from 0 to below 1, got 1"),
        (["--policy", "nowhere.json"], "no file nowhere.json can be read"),
        (["--policy", "a.json", "--target", "macs=0.5"], "leave out --target"),
        (["--tune", "sparsity"], "'sparsity' makes no difference"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments, sentence, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["tune", "--out", str(out), *arguments]) == cli.USER_ERROR
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pfrl:")]
    assert len(told) == 1 and sentence in told[0]
    assert not (out / "policy.json").exists()


def test_the_picture_of_an_error_points_down():
    def trial(number, quality):
        return {
            "trial": number,
            "quality": quality,
            "pruned": False,
            "diverged": False,
            "default": number == 1,
        }

    trials = [trial(1, 0.90), trial(2, 0.95), trial(3, 0.10)]
    result = {"trials": trials, "default": trials[0], "best": trials[1], "beaten_at": 2}
    wording = Classification.wording._replace(metric="error", error=True)
    axes = tuning_figure(result, wording).axes[0]
    low, high = axes.get_ylim()
    assert low < 5 < 10 < high < 90
    assert "down is better" in axes.get_title(loc="left")
