"""The part of a run's report that says how to ship the network: programs to copy.

Each has the names, the sizes and the scaling of the network at hand filled in.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.records.wording import code_block, section
from experiments.report.sections import wording_of

Entry = Mapping[str, Any]

PROGRAMS = Path(__file__).with_name("programs")
"""Of phones and browsers, with ``<NAMES>`` of what is filled in."""
GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey picture (ITU-R BT.601), as Pillow and most others mix."""


CLASS_NUMBERS = "argmax(-1))  # class numbers"
"""How programs end that read a classification."""
LISTS = {
    "kotlin": ("listOf(", ")", "List({}) {{ it.toString() }}"),
    "swift": ("[", "]", "(0..<{}).map {{ String($0) }}"),
    "javascript": ("[", "]", "Array.from({{ length: {} }}, (_, number) => String(number))"),
}
"""By language what stands around the items of a list, and a list of numbers as strings."""


def ship(report: Entry, place: Mapping[str, str]) -> str:
    """The section; empty if there is no file.

    Args:
      report: of the run.
      place: paths of the files by their names in 'artefacts'.
    """
    if "onnx" not in place:
        return ""
    parts = [
        f"In Python with ONNX Runtime ({_packages(report, 'onnxruntime')}):",
        in_onnxruntime(report, place["onnx"]),
    ]
    known = bool(report.get("input"))
    if "litert" in place and known:
        parts += [
            f"In Python with LiteRT ({_packages(report, 'ai-edge-litert')}):",
            in_litert(report, place["litert"]),
        ]
    if known:
        parts.append(_names(report))
    if known and _is_classifier_of_pictures(report):
        if "litert" in place:
            parts += ["On Android (Kotlin, LiteRT):", on_android(report, place["litert"])]
            parts += ["On iOS (Swift, LiteRT):", on_ios(report, place["litert"])]
        parts += ["In a browser or in Node (onnxruntime-web):", on_the_web(report, place["onnx"])]
    return section("How to ship it", *filter(None, parts))


def _is_classifier_of_pictures(report: Entry) -> bool:
    """Whether it names a class of a grey or coloured picture: the programs for phones do that."""
    images = report["input"]
    shape = images.get("shape") or ()
    classifies = wording_of(report).reading.endswith(CLASS_NUMBERS)
    return classifies and len(shape) == 3 and shape[2] in (1, 3) and bool(images.get("classes"))


def _names(report: Entry) -> str:
    names, of = report["input"].get("classes"), wording_of(report).names
    if not names:
        return ""
    if _are_numbers(names):
        return f"{of} have no names here: they are called by their numbers, 0 to {len(names) - 1}."
    return f"{of} from 0: {', '.join(names)}."


def _are_numbers(names: Sequence[str]) -> bool:
    """Whether classes have no names but their numbers."""
    return list(names) == [str(number) for number in range(len(names))]


def in_onnxruntime(report: Entry, path: str) -> str:
    """Python that runs the file on images as the network was trained on."""
    wording = wording_of(report)
    lines = [
        "import numpy, onnxruntime",
        *_imports(report),
        "",
        f'session = onnxruntime.InferenceSession("{path}", providers=["CPUExecutionProvider"])',
        "node = session.get_inputs()[0]",
    ]
    if "shape" in (report.get("input") or {}):
        first = "" if report["input"].get("several") else "[0]"
        call = f"session.run(None, {{node.name: x.astype(numpy.float32)}}){first}"
        lines += [*_scaled(report), f"{wording.outputs} = {call}", _reading(report)]
    else:
        lines += [
            "shape = [n if isinstance(n, int) else 1 for n in node.shape]",
            "x = numpy.zeros(shape, numpy.float32)  # your images, normalised as for training",
            f"{wording.outputs} = session.run(None, {{node.name: x}})[0]",
            wording.reading,
        ]
    return code_block("\n".join(lines), "python")


def in_litert(report: Entry, path: str) -> str:
    """The same with ``ai-edge-litert``."""
    wording = wording_of(report)
    one = "" if report["input"].get("several") else '["logits"]'
    lines = [
        "import numpy",
        "from ai_edge_litert.interpreter import Interpreter",
        *_imports(report),
        "",
        f'network = Interpreter("{path}", num_threads=1).get_signature_runner()',
        *_scaled(report),
        f"{wording.outputs} = network(images=x.astype(numpy.float32)){one}",
        _reading(report),
    ]
    return code_block("\n".join(lines), "python")


def _packages(report: Entry, runtime: str) -> str:
    """What installs all that a program in Python imports."""
    return f"`pip install {runtime} numpy{' pillow' if _imports(report) else ''}`"


def _imports(report: Entry) -> list[str]:
    """What the programs in Python need besides, to read a picture's file."""
    pictures = bool(report.get("input")) and _is_classifier_of_pictures(report)
    return ["from PIL import Image, ImageOps"] if pictures else []


def _scaled(report: Entry) -> list[str]:
    """Lines of Python that make ``x``: of a picture's file, or of pixels that are there."""
    images = report["input"]
    shape = ", ".join(map(str, images["shape"]))
    if _is_classifier_of_pictures(report):
        height, width, channels = images["shape"]
        edge = (1 - images.get("shown", 1)) / 2
        lines = [
            'picture = ImageOps.exif_transpose(Image.open("picture.jpg"))'
            f'.convert("{"RGB" if channels == 3 else "L"}")',
            f"picture = ImageOps.fit(picture, ({width}, {height}), Image.Resampling.BILINEAR"
            f"{f', {edge:.4g}' if edge else ''})",
            f"pixels = numpy.asarray(picture).reshape(1, {shape})",
        ]
    else:
        lines = [f"pixels = numpy.zeros((1, {shape}), numpy.uint8)  # your images, values 0 to 255"]
    return [*lines, f"x = (pixels / 255 - {_numbers(images['mean'])}) / {_numbers(images['std'])}"]


def _reading(report: Entry) -> str:
    """The line of Python that says what came out: a class by its name, if there are names."""
    if not _is_classifier_of_pictures(report):
        return wording_of(report).reading
    names, best = report["input"]["classes"], f"{wording_of(report).outputs}[0].argmax()"
    if _are_numbers(names):
        return f"print({best})  # the number of its class"
    return f"print({json.dumps(list(names), ensure_ascii=False)}[{best}])"


def _list_of(names: Sequence[str], language: str) -> str:
    """An expression of the names; short where they are numbers."""
    before, after, numbers = LISTS[language]
    if _are_numbers(names):
        return numbers.format(len(names))
    inside = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    # Kotlin puts the value of a variable where a dollar is.
    return before + (inside.replace("$", "\\$") if language == "kotlin" else inside) + after


def _numbers(values: Sequence[float]) -> str:
    """As short as it can be in Python: one number, or a list of one for each channel."""
    return str(values[0]) if len(set(values)) == 1 else str(list(values))


def _facts(report: Entry, path: str, language: str) -> dict[str, str]:
    """What is filled in, by name; lists as they stand between brackets in all three languages."""
    images = report["input"]
    height, width, channels = images["shape"]

    def each(values: Sequence[float]) -> list[float]:
        return [float(value) for value in (values if len(values) > 1 else [values[0]] * channels)]

    return {
        "PATH": path,
        "STEM": path.removesuffix(".tflite").split("/")[-1],
        "NAMES": _list_of(images["classes"], language),
        "COUNT": str(len(images["classes"])),
        "HEIGHT": str(height),
        "WIDTH": str(width),
        "CHANNELS": str(channels),
        "SHOWN": f"{images.get('shown', 1):.4g}",
        "MEAN": ", ".join(map(str, each(images["mean"]))),
        "STD": ", ".join(map(str, each(images["std"]))),
        "MEANF": ", ".join(f"{value}f" for value in each(images["mean"])),
        "STDF": ", ".join(f"{value}f" for value in each(images["std"])),
        "PIXEL": _pixel(report, language),
    }


def _filled(program: str, report: Entry, path: str, language: str) -> str:
    """A program of ``programs/`` in which every ``<NAME>`` is replaced."""
    text = (PROGRAMS / program).read_text()
    for name, value in _facts(report, path, language).items():
        text = text.replace(f"<{name}>", value)
    return code_block(text.strip("\n"), language)


_ADDS = {
    "kotlin": ("input.putFloat({})", "f", ""),
    "swift": ("input.append({})", "", ""),
    "javascript": ("input.push({})", "", ";"),
}
"""How a number is added to the input, the end of a literal and of a statement."""


def _pixel(report: Entry, language: str) -> str:
    add, literal, end = _ADDS[language]
    grey = " + ".join(
        f"{share}{literal} * {name}"
        for share, name in zip(GREY, ("red", "green", "blue"), strict=True)
    )
    colours = ("red", "green", "blue") if report["input"]["shape"][2] == 3 else (f"({grey})",)
    indent = "    " if language == "javascript" else " " * 12
    return f"\n{indent}".join(
        add.format(f"({colour} / 255{literal} - mean[{i}]) / std[{i}]") + end
        for i, colour in enumerate(colours)
    )


def on_android(report: Entry, path: str) -> str:
    """A class in Kotlin that names the class of a bitmap."""
    return _filled("Classifier.kt", report, path, "kotlin")


def on_ios(report: Entry, path: str) -> str:
    """A class in Swift that names the class of an image."""
    return _filled("Classifier.swift", report, path, "swift")


def on_the_web(report: Entry, path: str) -> str:
    """A module in JavaScript that names the class of a canvas's pixels."""
    return _filled("classifier.mjs", report, path, "javascript")
