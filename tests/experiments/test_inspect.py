"""``pfrl inspect`` as a user types it: what it tells of networks of the zoo, what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from experiments import cli
from experiments.report.inspection import IMAGES, InspectSettings, traced
from pfrl.data import load, sources
from pfrl.deploy.onnx.export import to_onnx
from tests.support.exported import NETWORKS
from tests.support.inspecting import RESNET8, document, refused

ROOT = Path(__file__).resolve().parents[2]


# 8x8 places: the stem 64 * 9*1*16 = 9,216, layer1 2 * 64 * 9*16*16 = 294,912;
# 4x4: 16 * 9 * (16*32 + 32*32) = 221,184; 2x2: 4 * 9 * (32*64 + 64*64) = 221,184; linear 640.
# Parameters: kernels 144 + 2*2,304 + 4,608 + 9,216 + 18,432 + 36,864 + 640, biases of the linear
# layer 10, scales and biases 2 * (3*16 + 2*32 + 2*64) = 480.
# With half of every group: stem and linear layer half of it, the rest a quarter.
def test_the_document_of_resnet8(capsys):
    found = document(capsys, *RESNET8)
    assert found["network"] == "resnet8"
    assert found["inputs"] == [{"shape": [2, 8, 8, 1], "dtype": "float32"}]
    assert [layer["name"] for layer in found["layers"]] == [
        "conv1",
        *(f"layer{stage}.0.conv{number}" for stage in (1, 2, 3) for number in (1, 2)),
        "linear",
    ]
    assert found["macs"] == 9_216 + 294_912 + 2 * 221_184 + 640 == 747_136
    assert found["product_macs"] == 0
    assert found["params"] == 144 + 2 * 2_304 + 4_608 + 9_216 + 18_432 + 36_864 + 650 + 480
    assert found["half"]["macs"] == 4_608 + (294_912 + 2 * 221_184) // 4 + 320 == 189_248
    assert found["half"]["macs_share"] == pytest.approx(189_248 / 747_136)
    assert found["half"]["params"] == 72 + (4_608 + 13_824 + 55_296) // 4 + 330 + 240
    assert found["unknown"] == []
    assert found["frozen"] == [{"reason": "the network's output", "layers": {"linear": 10}}]


# The stem's 16 channels are the middle of the 32 of the second stage and of the 64 of the third.
def test_layers_and_groups_of_resnet8(capsys):
    found = document(capsys, *RESNET8)
    groups = {group["name"]: group for group in found["groups"]}
    assert {name: group["size"] for name, group in groups.items()} == {
        "conv1": 16,
        "layer1.0.conv1": 16,
        "layer2.0.conv1": 32,
        "layer2.0.conv2": 16,
        "layer3.0.conv1": 64,
        "layer3.0.conv2": 32,
    }
    assert {group["kind"] for group in found["groups"]} == {"channels"}
    inner = groups["layer1.0.conv1"]
    assert (inner["producers"], inner["consumers"]) == (["layer1.0.conv1"], ["layer1.0.conv2"])
    # Half of what both convolutions do: 2 * 64 * 9*16*16 / 2.
    assert inner["half"] == {"channels": 8, "macs_saved": 147_456}
    assert {(m["parameter"], m["axis"], m["places"]) for m in inner["members"]} == {
        ("layer1.0.conv1.kernel", 3, 1),
        *((f"layer1.0.bn1.{name}", 0, 1) for name in ("scale", "bias", "mean", "var")),
        ("layer1.0.conv2.kernel", 2, 1),
    }
    # 8 of the stem's channels: half of the stem, of layer1 (one side of each) and of what
    # layer2.0.conv1 reads; a quarter of what layer2.0.conv2 makes and of what layer3.0.conv1
    # reads; an eighth of what layer3.0.conv2 makes and the linear layer reads.
    saved = 4_608 + 2 * 73_728 + 36_864 + 147_456 // 4 + 73_728 // 4 + 147_456 // 8 + 80
    assert groups["conv1"]["half"] == {"channels": 8, "macs_saved": saved}
    assert groups["conv1"]["producers"][-1] == "layer3.0.conv2"
    assert groups["conv1"]["consumers"][-1] == "linear"
    layer = found["layers"][-2]
    assert layer["kernel_shape"] == [3, 3, 64, 64]
    assert (layer["input_shape"], layer["output_shape"]) == ([2, 2, 64], [2, 2, 64])
    assert (layer["macs"], layer["params"]) == (147_456, 36_864)
    assert layer["frozen"] == {}
    assert layer["c_in"] == {
        "fixed": 0,
        "terms": [{"places": 1, "groups": ["layer3.0.conv1"]}],
    }
    made = [term["groups"] for term in layer["c_out"]["terms"]]
    assert sorted(made) == [["conv1"], ["layer2.0.conv2"], ["layer3.0.conv2"]]
    last = found["layers"][-1]
    assert last["c_out"] == {"fixed": 10, "terms": []}
    assert last["frozen"] == {"the network's output": 10}


def test_the_tables_as_a_user_sees_them_in_a_pipe():
    command = [sys.executable, "-m", "experiments", "inspect", *RESNET8]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == "resnet8 on N × 8 × 8 × 1 float32"
    assert max(map(len, lines)) <= 100
    rows = [" ".join(line.split()) for line in lines]
    assert "layer1.0.conv1 conv 3×3×16×16 8×8×16 147 k 2.30 k g2" in rows
    assert any(
        row.startswith("layer3.0.conv2 conv 3×3×64×64 2×2×64 147 k 36.9 k g") for row in rows
    )
    assert "linear dense 64×10 10 640 640 f1" in rows
    assert "g2 16 channels layer1.0.conv1 layer1.0.conv2 147 k 19.7 %" in rows
    assert "f1 10 linear the network's output" in rows
    assert rows[-3:] == [
        "8 layers, 6 channel groups with 176 channels.",
        "747 k MACs per example, 75.0 k parameters.",
        "With half of every group 189 k MACs (25.3 %) and 19.1 k parameters are left.",
    ]


def test_resnet50_shows_without_being_initialised(capsys):
    found = document(capsys, "--model", "resnet50", "--input", "224,224,3", "--classes", "1000")
    assert found["inputs"][0]["shape"] == [2, 224, 224, 3]
    # torchvision's documentation: 25,557,032 parameters, 4.09 G multiply-accumulates.
    assert found["params"] == 25_557_032
    assert round(found["macs"] / 1e9, 2) == 4.09
    assert len(found["layers"]) == 54


def test_heads_are_told_from_channels(capsys):
    arguments = ["--model", "vit_tiny", "--input", "32,32,3"]
    found = document(capsys, *arguments)
    kinds = [(group["size"], group["kind"]) for group in found["groups"]]
    assert kinds.count((3, "heads")) == 12
    query = next(layer for layer in found["layers"] if layer["name"] == "blocks.0.attn.query")
    (term,) = query["c_out"]["terms"]
    assert len(term["groups"]) == 2
    # In a layer of heads times channels both are named.
    assert cli.main(["inspect", *arguments]) == 0
    table = capsys.readouterr().out
    assert re.search(r"blocks\.0\.attn\.query +dense .* g2×g3 ", table)
    assert "in products of activations" in table


def test_shapes_of_the_data_sets_that_have_a_name():
    digits = load("digits")
    assert IMAGES["digits"] == (digits.image_shape, len(digits.classes))
    assert IMAGES["fashion_mnist"][1] == len(sources.FASHION_CLASSES)
    assert IMAGES["cifar10"][1] == len(sources.CIFAR_CLASSES)


def test_classes_are_those_of_the_data_unless_told():
    _, graph = traced(InspectSettings(model="lenet5", data="fashion_mnist", classes=7))
    assert graph.input_shape == (28, 28, 1)
    assert graph.layers[-1].output_shape == (7,)
    _, graph = traced(InspectSettings(model="resnet8"))
    assert graph.input_shape == (32, 32, 3)
    assert graph.layers[-1].output_shape == (10,)


def test_the_size_of_a_file_that_leaves_it_free_is_asked_for(tmp_path, capsys):
    model = to_onnx(*NETWORKS["resnet8-B"])
    for size in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        size.dim_param = "side"
    onnx.save(model, path := tmp_path / "net.onnx")
    found = document(capsys, "--model", str(path), "--input", "16,16,3")
    assert found["inputs"] == [{"shape": [2, 16, 16, 3], "dtype": "float32"}]
    told = refused(capsys, "--model", str(path), "--input", "16,16,1")
    assert "takes [any, any, any, 3], and the images are 16x16 with 1 channels" in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected --model NAME, FILE.py:FUNCTION or FILE.onnx"),
        (["--model", "resnet9"], "unknown model 'resnet9'"),
        (["--model", "resnet8", "--data", "digitz"], "unknown dataset 'digitz'"),
        (["--model", "resnet8", "--input", "224"], "HEIGHT,WIDTH,CHANNELS"),
        (["--model", "resnet8", "--input", "8,0,3"], "HEIGHT,WIDTH,CHANNELS"),
        (["--model", "resnet8", "--input", "8,8,3", "--data", "digits"], "leave one of them out"),
        (["--model", "resnet8", "--classes", "0"], "classes is a whole number from 1"),
        (["--model", "nowhere.py:make"], "no file nowhere.py"),
        (["--model", "nowhere.py"], "expected --model FILE.py:FUNCTION"),
        (["--model", "a.py:b", "--classes", "3"], "--classes is for networks of the zoo"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments, sentence, capsys):
    assert sentence in refused(capsys, *arguments)


def test_help_lists_the_options(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["inspect", "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "usage: pfrl inspect" in told
    for option in ("--model", "--model", "--data", "--input", "--classes", "--json", "--dot"):
        assert option in told
