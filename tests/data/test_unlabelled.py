"""Images without labels: the base network answers for them, and agreement is what counts."""

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from PIL import Image

import pfrl
from envs.task import load_network
from experiments import cli
from pfrl.data import DataError, load
from pfrl.data.taught import taught
from pfrl.deploy.runtimes.sessions import open_session
from pfrl.models.catalogue import pretrained_path
from pfrl.tasks.agreement import Agreement, Likeness, Unlabelled
from tests.support.onnx_files import file_of

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Sixty grey pictures, some in folders of their own."""
    place = tmp_path / "pictures"
    (place / "deeper" / "still").mkdir(parents=True)
    for i in range(60):
        pixels = RNG.integers(0, 256, (8, 8), np.uint8)
        inner = ("", "deeper", "deeper/still")[i % 3]
        Image.fromarray(pixels).save(place / inner / f"{i:02}.png")
    return place


def shares(images):
    """Three class scores: means of three parts of an image."""
    return np.stack([images[:, row].mean((1, 2)) for row in (0, 3, 6)], -1)


def test_a_folder_is_cut_and_the_teacher_answers(folder):
    plain = load(f"images:{folder}")
    assert isinstance(plain.task, Unlabelled) and plain.image_shape == (8, 8, 1)
    dataset = taught(plain, shares)
    splits = dataset.train, dataset.search, dataset.open_test()
    assert [len(split) for split in splits] == [48, 6, 6]
    assert len({image.tobytes() for split in splits for image in split.images}) == 60
    for split in splits:
        assert np.allclose(split.labels, shares(dataset.normalize(split.images)), atol=1e-6)
    assert np.array_equal(np.asarray(dataset.train.labels[3:5]), dataset.train.labels.outputs[3:5])
    assert isinstance(dataset.task, Agreement) and dataset.classes == ("0", "1", "2")
    images, targets = next(dataset.training_batches(16, np.random.default_rng(0)))
    assert images.shape == (16, 8, 8, 1) and targets.shape == (16, 3)


def test_the_teacher_answers_for_what_is_looked_at(folder):
    asked = []

    def counted(images):
        asked.append(len(images))
        return shares(images)

    dataset = taught(load(f"images:{folder}"), counted)
    assert (
        asked == [6] and len(dataset.train.labels) == 48 and dataset.train.labels.shape == (48, 3)
    )
    first = [y for _, y in dataset.training_batches(16, np.random.default_rng(0), 3)]
    again = [y for _, y in dataset.training_batches(16, np.random.default_rng(0), 3)]
    np.testing.assert_array_equal(first, again)
    assert asked == [6, 48, 48, 48] and dataset.train.labels.known.all()


def test_a_folder_with_splits_keeps_them(folder):
    (folder / "deeper").rename(folder / "train")
    (folder / "val").mkdir()
    for i in range(0, 60, 3):
        (folder / f"{i:02}.png").rename(folder / "val" / f"{i:02}.png")
    dataset = load(f"images:{folder}")
    assert (len(dataset.train), len(dataset.search), len(dataset.open_test())) == (36, 20, 4)


def test_outputs_that_are_no_classes_are_to_be_alike(folder):
    dataset = taught(load(f"images:{folder}"), lambda x: np.repeat(x, 2, -1))
    assert dataset.task == Likeness(dense=True) and not dataset.flip and dataset.crop == 0
    dataset = taught(load(f"images:{folder}"), lambda x: x.mean((1, 2)))
    assert dataset.task == Likeness() and dataset.flip


def test_qualities_worked_by_hand():
    teacher = np.array([[3.0, 4.0], [4.0, 3.0]])
    outputs = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert Agreement().quality(outputs, teacher).tolist() == [1, 0]
    # |(3, 3)|² of |(3, 4)|² and |(4, 2)|² of |(4, 3)|²
    assert np.allclose(Likeness().quality(outputs, teacher), [1 - 18 / 25, 1 - 20 / 25])
    assert np.allclose(Likeness().loss(jnp.asarray(outputs), jnp.asarray(teacher)), 38 / 50)
    assert Likeness().agree(1.005 * teacher, teacher).all()
    assert not Likeness().agree(1.02 * teacher, teacher).any()
    assert Likeness().quality(-teacher, teacher).tolist() == [0, 0]
    assert float(Agreement().loss(jnp.asarray(teacher), jnp.asarray(teacher))) == pytest.approx(
        0, abs=1e-6
    )
    assert float(
        Agreement().loss(jnp.asarray(teacher[::-1]), jnp.asarray(teacher))
    ) == pytest.approx(0.4621, abs=1e-4)


def test_too_few_pictures_or_none(tmp_path):
    with pytest.raises(DataError, match=r"too few pictures .* 0; expected 10"):
        load(f"images:{tmp_path}")
    with pytest.raises(DataError, match="no folder or"):
        load(f"images:{tmp_path / 'nowhere'}")


NETWORK = """
import jax, jax.numpy as jnp
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        self.b = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(jax.nn.relu(self.a(x)).mean(axis=(1, 2)))

def net():
    return Net(nnx.Rngs(0)), jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    return f"{tmp_path / 'net.py'}:net"


def test_a_network_is_its_own_teacher(own, folder):
    dataset, graph = load_network(own, f"images:{folder}", own.rpartition(":")[0])
    source = graph.source
    outputs = source.apply(source.variables, dataset.normalize(dataset.search.images), False)[0]
    assert np.allclose(outputs, dataset.search.labels, atol=1e-5)
    assert dataset.task.quality(np.asarray(outputs), dataset.search.labels).all()


def test_what_needs_labels_is_refused(own, folder, capsys, tmp_path):
    data = f"images:{folder}"
    assert cli.main(["pretrain", "--model", own, "--data", data]) == cli.USER_ERROR
    assert "has no labels to train with" in capsys.readouterr().err
    weights = pretrained_path("resnet8", "digits")
    wrong = ["--model", "resnet8", "--weights", str(weights), "--data", data]
    assert cli.main(["compress", *wrong, "--out", str(tmp_path / "run")]) == cli.USER_ERROR
    assert "give a network of your own" in capsys.readouterr().err
    for kind in ("images", "imagefolder"):  # before anything is said of weights
        nowhere = ["compress", "--model", "resnet20", "--data", f"{kind}:{tmp_path}/nowhere"]
        assert cli.main(nowhere) == cli.USER_ERROR
        assert "nowhere; expected one with pictures" in capsys.readouterr().err


@pytest.fixture
def net(tmp_path):
    """An ONNX file as PyTorch writes it, channels first."""
    calls = {
        "a": ("Conv", ["x", "first.weight", "first.bias"], {"strides": [2, 2]}),
        "b": ("Relu", ["a"], {}),
        "c": ("GlobalAveragePool", ["b"], {}),
        "d": ("Flatten", ["c"], {}),
        "y": ("Gemm", ["d", "last.weight", "last.bias"], {"transB": 1}),
    }
    shapes = {"first.weight": (16, 1, 3, 3), "first.bias": (16,), "last.weight": (3, 16)}
    shapes |= {"last.bias": (3,)}
    arrays = {name: RNG.normal(size=shape).astype("f") for name, shape in shapes.items()}
    return file_of(tmp_path / "net.onnx", calls, {"x": ["N", 1, 8, 8]}, arrays)


def test_an_onnx_file_is_compressed_without_labels(net, folder, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["compress", "--model", str(net), "--data", f"images:{folder}", "--agent", "random"]
    command += ["--episodes", "2", "--finish.epochs", "1", "--finish.rescore-steps", "2"]
    command += ["--finish.seconds", "0.1", "--finish.candidates", "1", "--out", str(out)]
    assert cli.main(command) == 0, capsys.readouterr().err
    # Behind the text are the settings, in which the reward's name is.
    told = (out / "report.md").read_text().partition("<details>")[0]
    assert "agreement" in told and "accuracy" not in told.replace("no accuracy", "")
    small = pfrl.from_onnx(out / "model.onnx", channels_last=True)
    assert small.apply(small.variables, RNG.normal(size=(2, 8, 8, 1)), False)[0].shape == (2, 3)


def test_all_of_several_outputs_count_alike():
    task = Likeness(sizes=(2, 1))
    teacher = np.asarray([[3.0, 4.0, 0.1]])
    outputs = np.asarray([[0.0, 4.0, 0.1]])  # of the first output 9 of 25 squares are lost
    assert np.allclose(task.quality(outputs, teacher), 1 - 9 / 50)
    assert np.allclose(task.quality(teacher * [1, 1, -1], teacher), 0.5)
    assert not task.agree(teacher * [1, 1, 1.02], teacher).any()
    ours = jnp.asarray(outputs[:, 2:]), {"x": jnp.asarray(outputs[:, :2])}
    theirs = jnp.asarray(np.roll(teacher, 1, 1))  # leaves of a tree in order
    assert np.allclose(Likeness(sizes=(1, 2)).loss(ours, theirs), 9 / 50)
    assert np.allclose(Likeness(sizes=(1, 2)).divergence(ours, theirs, 4.0), 9 / 50)


def test_a_network_of_two_outputs_is_compressed_without_labels(net, folder, tmp_path, capsys):
    model = onnx.load(net)
    head = onnx.helper.make_node("Gemm", ["d", "last.weight", "last.bias"], ["z"], transB=1)
    model.graph.node.append(head)
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info("z", 1, ["N", 3]))
    onnx.save(model, net)
    out = tmp_path / "run"
    command = ["apply", "--model", str(net), "--data", f"images:{folder}", "--keep", "0.5"]
    command += ["--finish.epochs", "1", "--finish.seconds", "0.1", "--out", str(out)]
    assert cli.main(command) == 0
    assert "48 training and 6 search images\n" in capsys.readouterr().err
    report = (out / "report.md").read_text()
    assert "on average over the outputs" in report
    code = report.partition("```python\n")[2].partition("```")[0]
    assert "{node.name: x.astype(numpy.float32)})\n" in code
    for name in ("model.onnx", "model.tflite"):
        images = RNG.normal(size=(2, 8, 8, 1)).astype("f")
        assert open_session(out / name).logits(images).shape == (2, 6)
    assert [each.name for each in onnx.load(out / "model.onnx").graph.output] == ["z", "y"]
    assert cli.main(["export", str(out), "--bits", "8", "--format", "onnx"]) == 0
    assert "model.onnx: agrees to a hundredth with the run's network" in capsys.readouterr().err
    command[command.index(f"images:{folder}")] = "digits"
    command[-1] = str(tmp_path / "other")
    assert cli.main(command) == cli.USER_ERROR
    assert "gives 2 outputs, and labels say only what one of them" in capsys.readouterr().err


def test_images_that_do_not_fit_the_file_are_one_sentence(net, tmp_path, capsys):
    wide = tmp_path / "wide.npz"
    images, targets = np.zeros((40, 28, 28, 1), np.uint8), np.arange(40) % 10
    np.savez(wide, images=images, targets=targets)
    for data, sentence in [
        (f"npz:{wide}", "takes [any, 1, 8, 8], and the images are 28x28 with 1 cha"),
        ("digits", "gives [N, 3], and the data is for [N, 10]"),
    ]:
        command = ["compress", "--model", str(net), "--data", data, "--out", str(tmp_path / "run")]
        assert cli.main(command) == cli.USER_ERROR
        assert sentence in capsys.readouterr().err
