"""A file of another framework given as a network: the sentence says how it becomes ONNX there."""

import pytest

from experiments import cli
from pfrl.models.catalogue import ModelError, check_name
from pfrl.models.elsewhere import advice
from pfrl.registry import unknown


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("net.pt", 'torch.onnx.export(net.eval(), (torch.zeros(1, 3, 224, 224),), "net.onnx")'),
        ("runs/Best.PTH", "torch.onnx.export("),
        ("net.keras", 'keras.saving.load_model("net.keras")'),
        ("old/net.h5", 'keras.saving.load_model("old/net.h5")'),
        ("net.tflite", "tf2onnx.convert --tflite net.tflite --output net.onnx"),
        ("folder/saved_model.pb", "tf2onnx.convert --saved-model folder --output net.onnx"),
        ("net.mlpackage", "Write it as ONNX where it was trained"),
        ("net.safetensors", "give it as --weights"),
    ],
)
def test_a_file_of_another_framework_is_told_from_a_name(model, says):
    told = advice(model)
    assert told is not None and told.startswith(f"{model} ") and says in told
    assert "net.onnx" in told or model == "net.safetensors"
    with pytest.raises(ModelError) as refused:
        check_name(model)
    assert str(refused.value) == told


def test_the_python_that_is_told_can_be_read():
    for model in ("net.pt", "net.keras"):
        told = str(advice(model))
        code = told[min(told.index(part) for part in ("torch.onnx", "net = ") if part in told) :]
        compile(code[: code.index(" with the size of")], model, "exec")


def test_a_saved_model_is_a_folder(tmp_path):
    assert advice(str(tmp_path)) is None
    (tmp_path / "saved_model.pb").touch()
    assert f"--saved-model {tmp_path} " in str(advice(str(tmp_path)))


def test_a_name_is_none_of_them():
    assert advice("resnet20") is None and advice("resnet-v1.5") is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ResNet-20", "resnet20"), ("mobilenetv2", "mobilenet_v2"), ("vgg16", "vgg16_bn")],
)
def test_the_name_that_may_be_meant_is_said_first(name, meant):
    with pytest.raises(
        ModelError, match=rf"unknown model '{name}' \(did you mean {meant}\?\); exp"
    ):
        check_name(name)


def test_nothing_is_meant_by_what_is_like_no_name():
    assert unknown("agent", "annealing", ["ddpg", "ppo"]) == (
        "unknown agent 'annealing'; expected one of ddpg, ppo"
    )
    assert unknown("agent", "DDPG", ["ddpg", "ppo"], "FILE.py") == (
        "unknown agent 'DDPG' (did you mean ddpg?); expected FILE.py or one of ddpg, ppo"
    )


def test_the_command_says_it_in_a_sentence(capsys):
    assert cli.main(["compress", "--model", "net.pt", "--data", "digits"]) == cli.USER_ERROR
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("pfrl: ")]
    assert line.startswith("pfrl: net.pt is a file of PyTorch") and line.endswith(
        "--model net.onnx"
    )
