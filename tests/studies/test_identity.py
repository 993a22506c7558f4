"""Every study's folder: the same command goes on, a command with other results is refused."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from experiments import cli
from experiments.records import run_folder
from experiments.records.run_folder import RunFolder
from experiments.settings.blocks import SettingsError
from pfrl.files import load_arrays, save_arrays
from pfrl.models.catalogue import PRETRAINED

WEIGHTS = PRETRAINED / "resnet8_digits.npz"
BASE = ("--model", "resnet8", "--data", "digits", "--weights", str(WEIGHTS))
COMMANDS = {
    "sweep": ("--agents", "uniform", "--episodes", "2"),
    "methods": ("--images", "64"),
    "proxy": ("--policies", "2", "--round-to", "1"),
    "pareto": ("--agent", "random", "--no-latency", "--episodes", "2"),
    "tune": ("--steps", "4"),
}
LONGER = {
    "sweep": ("episodes", 2, 3),
    "methods": ("images", 64, 65),
    "proxy": ("long_images", 16000, 8),
    "pareto": ("episodes", 2, 3),
    "tune": ("steps", 4, 5),
}
"""By command, how much an evaluation or a training gets: before and now."""
MORE = {
    "sweep": ("--seeds", "0", "7", "--targets", "macs=0.4", "--agents", "random"),
    "methods": ("--seeds", "4", "--sections", "bits"),
    "proxy": ("--policies", "3", "--fidelities", "finetune"),
    "pareto": ("--limits", "0.3", "0.6"),
    "tune": ("--trials", "3"),
}
"""What adds jobs."""


@pytest.fixture(params=COMMANDS)
def study(request, tmp_path, monkeypatch, capsys):
    """A command, its folder, as if it had been stopped at the first job, and how to go on."""
    command, out = request.param, tmp_path / "study"
    begin = RunFolder.begin

    def stopped(folder):
        begin(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "begin", stopped)

    def start(*words):
        code = cli.main([command, *BASE, *COMMANDS[command], "--out", str(out), *words])
        said = capsys.readouterr().err.splitlines(keepends=True)
        return code, "".join(line for line in said if line.startswith("pfrl: "))

    assert start()[0] == cli.INTERRUPTED
    assert (out / "config.json").exists()
    return command, out, start


def test_another_study_is_refused_in_a_sentence_that_names_what_differs(study, tmp_path):
    """Before anything is loaded: neither the data nor weights of that network are there."""
    command, out, start = study
    arrays, meta = load_arrays(WEIGHTS)
    name = next(iter(arrays))
    trained = save_arrays(tmp_path / "longer.npz", {**arrays, name: arrays[name] + 1}, meta)
    longer, before, now = LONGER[command]
    for words, told in {
        ("--model", "resnet20"): "model was 'resnet8', now it is 'resnet20'",
        ("--data", "fashion_mnist"): "data was 'digits', now it is 'fashion_mnist'",
        ("--weights", str(trained)): "weights was",
        (f"--{longer.replace('_', '-')}", str(now)): f"{longer} was {before}, now it is {now}",
    }.items():
        code, error = start(*words)
        assert code == cli.USER_ERROR
        assert error.startswith("pfrl: ") and error.count("\n") == 1
        assert f"{out} holds results of other settings: {told}" in error
        assert error.endswith("give the same ones, or choose another --out\n")


def test_other_versions_are_refused(study, monkeypatch):
    _, _, start = study
    version = run_folder.version
    monkeypatch.setattr(
        run_folder, "version", lambda name: "0.1" if name == "jax" else version(name)
    )
    code, error = start()
    assert code == cli.USER_ERROR
    assert "versions.jax was" in error and "now it is '0.1'" in error


def test_the_same_and_what_adds_jobs_goes_on(study, tmp_path):
    """The same weights are the same weights, wherever they lie."""
    command, _, start = study
    copied = shutil.copy(WEIGHTS, tmp_path / "copy.npz")
    assert start()[0] == cli.INTERRUPTED
    assert start("--weights", str(copied), *MORE[command])[0] == cli.INTERRUPTED


def test_a_folder_of_another_command_is_refused(study, tmp_path, capsys):
    command, out, _ = study
    other = "tune" if command != "tune" else "sweep"
    assert cli.main([other, *BASE, *COMMANDS[other], "--out", str(out)]) == cli.USER_ERROR
    assert f"command was '{command}', now it is '{other}'" in capsys.readouterr().err


def test_results_without_what_made_them_are_refused(study):
    _, out, start = study
    (out / "config.json").unlink()
    (out / "results.jsonl").write_text("{}\n")
    code, error = start()
    assert code == cli.USER_ERROR and "has results but no config.json" in error


@dataclass(frozen=True)
class Own:
    FREE: ClassVar = ("out",)
    out: Path
    model: str
    data: str
    weights: Path = WEIGHTS


@pytest.mark.parametrize(
    ("model", "data", "file"),
    [
        ("{}/net.py:make", "digits", "net.py"),
        ("{}/net.onnx", "digits", "net.onnx"),
        ("resnet8", "{}/data.py:make", "data.py"),
        ("resnet8", "npz:{}/data.npz", "data.npz"),
        ("resnet8", "imagefolder:{}/photos?size=32", "photos/train/cat/0.png"),
    ],
)
def test_a_file_of_the_user_that_was_edited_is_refused(model, data, file, tmp_path):
    """Also where the weights are given, and so the same."""
    edited = tmp_path / file
    edited.parent.mkdir(parents=True, exist_ok=True)
    edited.write_text("before")
    settings = Own(tmp_path / "out", model.format(tmp_path), data.format(tmp_path))
    RunFolder("toy", settings, WEIGHTS).begin()
    edited.touch()
    RunFolder("toy", settings, WEIGHTS)
    edited.write_text("afterwards")
    place = tmp_path / file.partition("/")[0]
    with pytest.raises(SettingsError) as refused:
        RunFolder("toy", settings, WEIGHTS)
    assert str(refused.value) == (
        f"{settings.out} holds results of other settings: {place} has changed since; choose"
        " another --out"
    )
