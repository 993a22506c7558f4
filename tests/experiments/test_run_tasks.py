"""Whole runs of other tasks than classification, as a user types them: short, to the report."""

import json

import pytest

from experiments.cli import main

SHORT = (
    "--target macs=0.5 --agent uniform --episodes 1 --finish.candidates 1 --finish.rescore-steps 1"
    " --finish.seconds 0.05 --finish.epochs 0.1 --recipe.images 64"
    " --episode.steps 1 --episode.statistics-images 64"
).split()


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        pytest.param("resnet8", "digits_landmarks", "test NME", marks=pytest.mark.ci),
        pytest.param("pose8", "digits_pose", "test PCK@0.1", marks=pytest.mark.slow),
    ],
)
def test_from_training_to_the_report(model, data, said, tmp_path, capsys):
    weights, out = str(tmp_path / "weights.npz"), tmp_path / "run"
    begin = ["--model", model, "--data", data]
    assert main(["pretrain", *begin, "--epochs", "0.5", "--out", weights]) == 0
    assert main(["compress", *begin, "--weights", weights, *SHORT, "--out", str(out)]) == 0
    assert str(out / "model.onnx") in capsys.readouterr().out
    report = (out / "report.md").read_text()
    assert said in report
    assert "test accuracy" not in report
    facts = json.loads((out / "report.json").read_text())
    assert facts["task"]["metric"] in said


def test_a_network_whose_answers_do_not_fit_is_refused(tmp_path, capsys):
    command = ["pretrain", "--model", "resnet8", "--data", "digits_pose", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "gives one answer an image, and the data is for maps" in capsys.readouterr().err
