"""The command line as a user types it: what goes wrong is one sentence and exit code 2."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from experiments import cli
from experiments.run.compression import on_this_processor
from experiments.run.inputs import needs_latency
from experiments.settings.blocks import SpaceBlock
from experiments.settings.compression import CompressSettings
from pfrl.compression.recipe import REPAIRED, ROUNDED, Recipe
from pfrl.deploy.onnx.export import export_onnx
from pfrl.models.catalogue import pretrained_path
from tests.support.flat import dense
from tests.support.onnx_files import file_of

ROOT = Path(__file__).resolve().parents[2]
DIGITS = pretrained_path("resnet8", "digits")
TINY = [
    "--episodes",
    "4",
    "--episode.steps",
    "1",
    "--episode.batch",
    "16",
    "--episode.search-images",
    "60",
    "--episode.statistics-images",
    "16",
    "--finish.epochs",
    "0.1",
    "--finish.seconds",
    "0.1",
    "--finish.candidates",
    "2",
]


def refused(capsys, *arguments: str) -> str:
    """The one sentence that a wrong command prints."""
    assert cli.main(["compress", *arguments]) == cli.USER_ERROR
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if line.startswith("pfrl:")]
    assert len(told) == 1, captured.err
    assert "Traceback" not in captured.err
    return told[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "resnet9"], "unknown model 'resnet9'"),
        (["--data", "digitz"], "digitz"),
        (["--agent", "dqn"], "unknown agent 'dqn'"),
        (["--latency-runtime", "phone"], "unknown runtime 'phone'"),
        (["--latency-runtime", "xla"], "no latency is measured in it; one of litert, onnx is"),
        (["--reward", "luck"], "unknown reward 'luck'"),
        (["--target", "macs"], "cannot read the target"),
        (["--target", "flops=0.5"], "unknown metric 'flops'"),
        (["--target", "macs=0.0001"], "cannot be met"),
        (["--weights", "nowhere.npz"], "no file nowhere.npz"),
        (["--model", "resnet20", "--weights", str(DIGITS)], "another network"),
        (["--data", "imagefolder:nowhere", "--weights", str(DIGITS)], "nowhere"),
        (["--episodes", "0"], "episodes"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments, sentence, tmp_path, capsys):
    out = tmp_path / "run"
    assert sentence in refused(capsys, "--out", str(out), *arguments)
    assert not out.exists()


def test_damaged_weights_are_refused(tmp_path, capsys):
    assert DIGITS is not None
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(DIGITS.read_bytes()[:-5000])
    out = tmp_path / "run"
    assert "damaged.npz" in refused(capsys, "--weights", str(damaged), "--out", str(out))
    assert not out.exists()


def test_data_that_does_not_fit_the_weights_is_refused(tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image")
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pillow.new("RGB", (8, 8), (40 * number, 0, 90)).save(folder / f"{number}.png")
    sentence = refused(
        capsys,
        "--data",
        f"imagefolder:{tmp_path / 'photos'}",
        "--weights",
        str(DIGITS),
        "--out",
        str(tmp_path / "run"),
    )
    assert "the data has 2" in sentence
    assert not (tmp_path / "run").exists()


def test_an_out_that_is_a_file_is_refused(tmp_path, capsys):
    out = tmp_path / "taken"
    out.write_text("mine")
    refused(capsys, "--out", str(out))
    assert out.read_text() == "mine"


def test_the_report_of_an_unfinished_run_says_what_to_do(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == cli.USER_ERROR
    assert "start the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["report"], ["pick", "--max-drop", "1"], ["pick", "--target", "macs=0.5"], ["export"]],
)
def test_a_folder_that_does_not_exist_is_named(command, tmp_path, capsys):
    name, *options = command
    assert cli.main([name, str(tmp_path / "nowhere"), *options]) == cli.USER_ERROR
    assert f"pfrl: there is no folder {tmp_path / 'nowhere'};" in capsys.readouterr().err


def test_measuring_a_file_that_does_not_exist_says_so(tmp_path, capsys):
    assert cli.main(["measure", str(tmp_path / "m.tflite")]) == cli.USER_ERROR
    assert f"pfrl: no file {tmp_path / 'm.tflite'}; expected" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody tells the memory")
def test_measuring_ends_when_a_file_takes_too_much_memory(tmp_path, capsys):
    calls = {
        "large": ("Expand", ["x", "sizes"], {}),
        "y": ("ReduceMax", ["large"], {"keepdims": 0}),
    }
    path = file_of(tmp_path / "m.onnx", calls, {"x": [1, 1]}, {"sizes": np.array([2**15, 2**15])})
    assert cli.main(["measure", str(path)]) == cli.USER_ERROR
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"pfrl: a file cannot be run: {path} was stopped") and "GiB" in said


def test_measuring_a_damaged_file_is_refused(tmp_path, capsys):
    path = tmp_path / "no.onnx"
    path.write_bytes(b"no network")
    assert cli.main(["measure", str(path)]) == cli.USER_ERROR
    assert str(path) in capsys.readouterr().err


def test_measuring_two_files_compares_them(tmp_path, capsys):
    kernel = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    flat, onnx = tmp_path / "m.tflite", tmp_path / "m.onnx"
    flat.write_bytes(dense(kernel))
    export_onnx(lambda x: x @ kernel, (8,), onnx)
    found = cli.main(["measure", str(onnx), str(flat), "--seconds", "0.1", "--layers"])
    lines = capsys.readouterr().out.splitlines()
    assert found == 0 and lines[0].startswith(f"{onnx}: ") and "onnxruntime" in lines[0]
    assert lines[1].startswith(f"{flat}: ") and "of the first file's" in lines[1]
    assert any("Gemm" in line or "MatMul" in line for line in lines)
    assert cli.main(["measure"]) == cli.USER_ERROR


def test_a_wide_terminal_has_a_help_text_in_one_line(monkeypatch, capsys):
    """However it is wrapped in the source."""
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        cli.main(["pretrain", "--help"])
    texts = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    (seed,) = (text for text in texts if text.startswith("--seed INT"))
    assert seed.endswith(
        "Seed of the initial weights, of shuffling and of augmentation. (default: 0)"
    )
    (data,) = (text for text in texts if text.startswith("--data STR"))
    assert " images:PATH, pictures without labels, for which the base network answers; " in data


@pytest.mark.parametrize("command", ["compress", "pretrain", "report", "measure"])
def test_help_lists_the_options(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert "usage: pfrl " + command in capsys.readouterr().out


def test_a_network_without_its_option_is_told_which_it_is(capsys):
    told = refused(capsys, "net.onnx", "--episodes", "4")
    assert told.startswith("pfrl: 'net.onnx' has no option before it; a network is pfrl compress")
    assert "--model net.onnx" in told


@pytest.mark.parametrize("command", ["inspect", "sweep"])
def test_other_commands_tell_it_too(command, capsys):
    assert cli.main([command, "net.onnx"]) == cli.USER_ERROR
    assert f"a network is pfrl {command} --model net.onnx" in capsys.readouterr().err


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pfrl {version('pocketflow-rl')}\n"


def test_an_unknown_option_ends_with_two(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["compress", "--speed", "11"])
    assert ended.value.code == 2


def test_wishes_in_words():
    speed = CompressSettings(prefer="speed").resolved()
    assert (speed.target, speed.space.knobs, speed.reward) == ("latency=0.5", ("keep",), "accuracy")
    assert needs_latency(speed)
    size = CompressSettings(prefer="size").resolved()
    assert (size.target, size.space.knobs, size.space.int8) == ("bytes=0.25", ("keep",), "fastest")
    assert size.space.opened()["quantized"] and not needs_latency(size)
    both = CompressSettings(prefer="both").resolved()
    assert (both.target, both.space.int8) == ("latency=0.5", "fastest") and needs_latency(both)
    assert CompressSettings(prefer="size", target="bytes=0.5").resolved().target == "bytes=0.5"
    assert CompressSettings().resolved().target == "macs=0.5"


def test_integers_have_the_bits_that_the_processor_computes_right():
    size = CompressSettings(prefer="size").resolved()
    portable = CompressSettings(prefer="size", space=SpaceBlock(int8="portable")).resolved()
    for settings, saturates, weights in (
        (size, False, 8),
        (size, True, 7),
        (portable, False, 7),
    ):
        bounds = on_this_processor(settings, saturates).space.bounds()
        assert bounds["fixed_bits"] == (weights, 8)
        assert bounds["bits"][1] == bounds["edge_bits"] == weights
    assert size.recipe == ROUNDED and size.recipe.bias_correction
    own = CompressSettings(prefer="size", recipe=Recipe(calibration="mse")).resolved()
    assert own.recipe == Recipe(calibration="mse"), "what is said wins"
    plain = CompressSettings().resolved()
    assert plain.recipe == REPAIRED
    assert on_this_processor(plain, True) == plain
    assert plain.space.bounds()["fixed_bits"] == (32, 32)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.ci
def test_a_full_disk_is_one_sentence(small_disk):
    """A process: what it has open is closed without a word, too."""
    words = [*TINY, "--agent", "random", "--out", str(small_disk / "run")]
    ended = subprocess.run(
        [sys.executable, "-m", "experiments", "compress", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == cli.USER_ERROR
    assert ended.stderr.count("pfrl:") == 1 and "Traceback" not in ended.stderr
    assert "space" in ended.stderr.splitlines()[-1]
    assert not list(small_disk.rglob("*.onnx"))


@pytest.mark.ci
def test_pretrained_weights_are_taken_by_compress(tmp_path, capsys):
    weights = tmp_path / "lenet.npz"
    train = ["pretrain", "--model", "lenet5", "--data", "digits", "--epochs", "0.3"]
    assert cli.main([*train, "--learning-rate", "0.02", "--out", str(weights)]) == 0
    compress = ["compress", "--model", "lenet5", "--weights", str(weights), "--agent", "random"]
    out = tmp_path / "run"
    assert cli.main([*compress, *TINY, "--out", str(out), "--target", "macs=0.6"]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert paths == [weights, out / "report.md", out / "model.onnx"]
    assert all(path.is_file() for path in paths)
