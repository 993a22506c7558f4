"""What a report says about shipping: the programs run, or hold together where they cannot run."""

import json
import re
import shutil
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.report.shipping import ship
from pfrl.data.imagefolder import imagefolder
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.onnx.export import export_onnx
from pfrl.tasks import Landmarks
from pfrl.tasks.agreement import Agreement

SHAPES = {"grey": (4, 6, 1), "coloured": (4, 6, 3)}
NAMES = ["T-shirt/top", "Été", 'a "bag"', "dress"]
PLACE = {"onnx": "model.onnx", "litert": "model.tflite"}


def report_on(shape, **more):
    """Of a network whose images have the given shape."""
    mean, std = np.linspace(0.2, 0.4, shape[2]), np.linspace(0.5, 0.3, shape[2])
    images = {"shape": list(shape), "mean": mean.tolist(), "std": std.tolist(), "classes": NAMES}
    return {"input": images, **more}


def programs(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_programs_in_python_run(shape, tmp_path):
    """A black picture, scaled, times 1 to 4: class 0 has the largest of these negative numbers."""

    def network(x):
        return x.mean((1, 2, 3))[:, None] * jnp.arange(1.0, 5.0)

    Image.new("RGB", (50, 20)).save(tmp_path / "picture.jpg")

    export_onnx(network, shape, tmp_path / "model.onnx")
    export_litert(network, shape, tmp_path / "model.tflite")
    found = programs(ship(report_on(shape), PLACE), "python")
    assert len(found) == 2
    for code in found:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "T-shirt/top\n"


def numbered(wording):
    """A report on a network for pictures without labels: its 1,000 classes are numbers."""
    report = report_on((4, 6, 3), task=wording._asdict())
    report["input"]["classes"] = [str(number) for number in range(1000)]
    return report


# Class 0 has the largest of these negative numbers; for a softmax it is called a probability.
@pytest.mark.parametrize("wording", [Agreement().wording, Agreement(probabilities=True).wording])
def test_classes_without_names_are_numbers_in_every_language(wording, tmp_path):
    def network(x):
        return x.mean((1, 2, 3))[:, None] * jnp.arange(1.0, 1001.0)

    Image.new("RGB", (50, 20)).save(tmp_path / "picture.jpg")
    export_onnx(network, (4, 6, 3), tmp_path / "model.onnx")
    text = ship(numbered(wording), PLACE)
    code = programs(text, "python")[0]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert "their numbers, 0 to 999." in text and len(text) < 10_000
    assert "List(1000) { it.toString() }" in programs(text, "kotlin")[0]
    assert "(0..<1000).map { String($0) }" in programs(text, "swift")[0]
    assert "Array.from({ length: 1000 }" in programs(text, "javascript")[0]


def test_what_has_to_be_installed_is_said():
    """Pillow too, where the program reads a picture's file."""
    report = report_on((28, 28, 1))
    assert "`pip install onnxruntime numpy pillow`" in ship(report, PLACE)
    assert "`pip install ai-edge-litert numpy pillow`" in ship(report, PLACE)
    report["input"]["classes"] = []
    assert "`pip install onnxruntime numpy`" in ship(report, PLACE)


def test_the_program_in_python_shows_the_network_what_training_did(tmp_path):
    """Of a broad picture the data set's pixels, but for the rounding of resizing twice."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3))
    picture = Image.fromarray(np.kron(coarse, np.ones((12, 12, 1))).astype(np.uint8))
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(10):
            picture.save(tmp_path / place / f"{number}.png")
    data = imagefolder(f"{tmp_path}?size=28")
    report = report_on((28, 28, 3))
    report["input"]["shown"] = data.shown
    code, _ = programs(ship(report, PLACE), "python")
    picture.save(tmp_path / "picture.jpg", "PNG")
    lines = [line for line in code.split("\n") if re.match("import|from|picture|pixels", line)]
    found: dict[str, Any] = {}
    exec("\n".join(lines).replace("picture.jpg", f"{tmp_path}/picture.jpg"), found)
    squeezed = np.asarray(picture.resize((28, 28)))

    def off(pixels):
        return np.abs(pixels.astype(float) - data.train.images[0]).mean()

    assert off(found["pixels"]) < 4 < 20 < off(squeezed)


STUB = """
import fs from "node:fs";
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export class InferenceSession {
  static async create(path) { return new InferenceSession(); }
  async run(feeds) {
    const { type, data, dims } = feeds.images;
    fs.writeFileSync("fed.json", JSON.stringify({ type, dims, data: Array.from(data) }));
    return { logits: new Tensor("float32", Float32Array.from([0, 3, 5, 4]), [1, 4]) };
  }
}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_program_for_the_web_scales_as_in_training(shape, tmp_path):
    """Runs in Node, beside a module that notes what it is fed."""
    module = tmp_path / "node_modules" / "onnxruntime-web"
    module.mkdir(parents=True)
    (module / "package.json").write_text('{"type": "module", "exports": "./index.js"}')
    (module / "index.js").write_text(STUB)
    report = report_on(shape)
    (code,) = programs(ship(report, PLACE), "javascript")
    (tmp_path / "classifier.mjs").write_text(code)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)
    (tmp_path / "main.mjs").write_text(
        'import { classify } from "./classifier.mjs";'
        f"console.log(await classify(Uint8ClampedArray.from({pixels.ravel().tolist()})));"
    )
    done = subprocess.run(
        ["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == 'a "bag"\n'
    fed = json.loads((tmp_path / "fed.json").read_text())
    assert (fed["type"], fed["dims"]) == ("float32", [1, *shape])
    colours = pixels[..., :3].astype(float)
    seen = colours @ [[0.299], [0.587], [0.114]] if shape[2] == 1 else colours
    scaled = (seen / 255 - report["input"]["mean"]) / report["input"]["std"]
    np.testing.assert_allclose(np.reshape(fed["data"], shape), scaled, rtol=1e-5)


CANVAS = """
import { pixelsOf } from "./classifier.mjs";
globalThis.OffscreenCanvas = class {
  getContext() {
    return {
      drawImage: (picture, ...box) => console.log(box.join(" ")),
      getImageData: (...box) => ({ data: box.join(" ") }),
    };
  }
};
console.log(pixelsOf({ naturalWidth: 80, naturalHeight: 40 }));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_program_for_the_web_takes_the_middle(tmp_path):
    """Of 80 x 40 the half of what 6 x 4 fills: 30 x 20, from 25 and 10."""
    module = tmp_path / "node_modules" / "onnxruntime-web"
    module.mkdir(parents=True)
    (module / "package.json").write_text('{"type": "module", "exports": "./index.js"}')
    (module / "index.js").write_text(STUB)
    report = report_on((4, 6, 3))
    report["input"]["shown"] = 0.5
    (code,) = programs(ship(report, PLACE), "javascript")
    (tmp_path / "classifier.mjs").write_text(code)
    (tmp_path / "main.mjs").write_text(CANVAS)
    done = subprocess.run(
        ["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "25 10 30 20 0 0 6 4\n0 0 6 4\n"


PAIRS = {")": "(", "]": "[", "}": "{"}


def open_brackets(code: str) -> list[str]:
    """Those that are not closed, outside of strings and comments."""
    stack = []
    for sign in re.sub(r'"(\\.|[^"\\])*"|//.*', "", code):
        if sign in PAIRS.values():
            stack.append(sign)
        elif sign in PAIRS:
            assert stack and stack.pop() == PAIRS[sign]
    return stack


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("language", ["kotlin", "swift"])
def test_the_programs_for_phones_are_whole(language, shape):
    (code,) = programs(ship(report_on(shape), PLACE), language)
    assert open_brackets(code) == [] and not re.search(r"<[A-Z]+>", code)
    assert '"T-shirt/top", "Été", "a \\"bag\\"", "dress"' in code
    assert "model.tflite" in code and code.count("/ std[") == shape[2]


def test_what_is_not_known_is_left_out():
    assert ship({}, {}) == ""
    assert ship(report_on((4, 6, 3)), {"onnx": "m.onnx"}).count("```python") == 1
    points = report_on((4, 6, 3), task=Landmarks().wording._asdict())
    assert "```kotlin" not in ship(points, PLACE) and "```python" in ship(points, PLACE)
