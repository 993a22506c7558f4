"""The part of a run's report that says how to ship the network: programs to copy.

Each has the names, the sizes and the scaling of the network at hand filled in.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.records.wording import code_block, section
from experiments.report.sections import wording_of
from pfrl.tasks import Classification

Entry = Mapping[str, Any]

GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey picture (ITU-R BT.601), as Pillow and most others mix."""


def ship(report: Entry, place: Mapping[str, str]) -> str:
    """The section; empty if there is no file.

    Args:
      report: of the run.
      place: paths of the files by their names in 'artefacts'.
    """
    if "onnx" not in place:
        return ""
    parts = ["In Python with ONNX Runtime:", in_onnxruntime(report, place["onnx"])]
    known = bool(report.get("input"))
    if "litert" in place and known:
        parts += ["In Python with LiteRT:", in_litert(report, place["litert"])]
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
    classifies = wording_of(report) == Classification.wording
    return classifies and len(shape) == 3 and shape[2] in (1, 3) and bool(images.get("classes"))


def _names(report: Entry) -> str:
    names = report["input"].get("classes")
    return f"{wording_of(report).names} from 0: {', '.join(names)}." if names else ""


def in_onnxruntime(report: Entry, path: str) -> str:
    """Python that runs the file on images as the network was trained on."""
    wording = wording_of(report)
    lines = [
        "import numpy, onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{path}", providers=["CPUExecutionProvider"])',
        "node = session.get_inputs()[0]",
    ]
    if "shape" in (report.get("input") or {}):
        first = "" if report["input"].get("several") else "[0]"
        call = f"session.run(None, {{node.name: x.astype(numpy.float32)}}){first}"
        lines += [*_scaled(report), f"{wording.outputs} = {call}"]
    else:
        lines += [
            "shape = [n if isinstance(n, int) else 1 for n in node.shape]",
            "x = numpy.zeros(shape, numpy.float32)  # your images, normalised as for training",
            f"{wording.outputs} = session.run(None, {{node.name: x}})[0]",
        ]
    return code_block("\n".join([*lines, wording.reading]), "python")


def in_litert(report: Entry, path: str) -> str:
    """The same with ``ai-edge-litert``."""
    wording = wording_of(report)
    one = "" if report["input"].get("several") else '["logits"]'
    lines = [
        "import numpy",
        "from ai_edge_litert.interpreter import Interpreter",
        "",
        f'network = Interpreter("{path}", num_threads=1).get_signature_runner()',
        *_scaled(report),
        f"{wording.outputs} = network(images=x.astype(numpy.float32)){one}",
        wording.reading,
    ]
    return code_block("\n".join(lines), "python")


def _scaled(report: Entry) -> list[str]:
    images = report["input"]
    shape = ", ".join(map(str, images["shape"]))
    return [
        f"pixels = numpy.zeros((1, {shape}), numpy.uint8)  # your images, values 0 to 255",
        f"x = (pixels / 255 - {_numbers(images['mean'])}) / {_numbers(images['std'])}",
    ]


def _numbers(values: Sequence[float]) -> str:
    """As short as it can be in Python: one number, or a list of one for each channel."""
    return str(values[0]) if len(set(values)) == 1 else str(list(values))


def _facts(report: Entry, path: str) -> dict[str, str]:
    """What is filled in, by name; lists as they stand between brackets in all three languages."""
    images = report["input"]
    height, width, channels = images["shape"]

    def each(values: Sequence[float]) -> list[float]:
        return [float(value) for value in (values if len(values) > 1 else [values[0]] * channels)]

    return {
        "PATH": path,
        "STEM": path.removesuffix(".tflite").split("/")[-1],
        "NAMES": ", ".join(json.dumps(name, ensure_ascii=False) for name in images["classes"]),
        "COUNT": str(len(images["classes"])),
        "HEIGHT": str(height),
        "WIDTH": str(width),
        "CHANNELS": str(channels),
        "MEAN": ", ".join(map(str, each(images["mean"]))),
        "STD": ", ".join(map(str, each(images["std"]))),
        "MEANF": ", ".join(f"{value}f" for value in each(images["mean"])),
        "STDF": ", ".join(f"{value}f" for value in each(images["std"])),
    }


def _filled(template: str, report: Entry, path: str, language: str) -> str:
    for name, text in _facts(report, path).items():
        template = template.replace(f"<{name}>", text)
    return code_block(template.strip("\n"), language)


_KOTLIN = """
// build.gradle.kts: implementation("com.google.ai.edge.litert:litert:1.4.0")
// <PATH> lies in the app's assets.
import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

class Classifier(context: Context) {
    private val names = listOf(<NAMES>)
    private val mean = floatArrayOf(<MEANF>)
    private val std = floatArrayOf(<STDF>)
    private val interpreter = context.assets.openFd("<PATH>").use { file ->
        val channel = FileInputStream(file.fileDescriptor).channel
        val mode = FileChannel.MapMode.READ_ONLY
        val mapped = channel.map(mode, file.startOffset, file.declaredLength)
        Interpreter(mapped, Interpreter.Options().setNumThreads(2))
    }

    fun classify(image: Bitmap): String {
        val scaled = Bitmap.createScaledBitmap(image, <WIDTH>, <HEIGHT>, true)
        val pixels = IntArray(<WIDTH> * <HEIGHT>)
        scaled.getPixels(pixels, 0, <WIDTH>, 0, 0, <WIDTH>, <HEIGHT>)
        val input = ByteBuffer.allocateDirect(4 * <WIDTH> * <HEIGHT> * <CHANNELS>)
        input.order(ByteOrder.nativeOrder())
        for (pixel in pixels) {
            val red = pixel shr 16 and 0xFF
            val green = pixel shr 8 and 0xFF
            val blue = pixel and 0xFF
            <PIXEL>
        }
        input.rewind()
        val logits = Array(1) { FloatArray(<COUNT>) }
        interpreter.run(input, logits)
        return names[logits[0].indices.maxByOrNull { logits[0][it] }!!]
    }
}
"""
_SWIFT = """
// Podfile: pod "TensorFlowLiteSwift"; <PATH> is a resource of the app
import CoreGraphics
import Foundation
import TensorFlowLite

final class Classifier {
    private let names = [<NAMES>]
    private let mean: [Float] = [<MEAN>]
    private let std: [Float] = [<STD>]
    private let interpreter: Interpreter

    init() throws {
        let path = Bundle.main.path(forResource: "<STEM>", ofType: "tflite")!
        var options = Interpreter.Options()
        options.threadCount = 2
        interpreter = try Interpreter(modelPath: path, options: options)
        try interpreter.allocateTensors()
    }

    func classify(_ image: CGImage) throws -> String {
        var pixels = [UInt8](repeating: 0, count: 4 * <WIDTH> * <HEIGHT>)
        let context = CGContext(
            data: &pixels, width: <WIDTH>, height: <HEIGHT>, bitsPerComponent: 8,
            bytesPerRow: 4 * <WIDTH>, space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)!
        context.draw(image, in: CGRect(x: 0, y: 0, width: <WIDTH>, height: <HEIGHT>))
        var input = [Float]()
        for start in stride(from: 0, to: pixels.count, by: 4) {
            let red = Float(pixels[start])
            let green = Float(pixels[start + 1])
            let blue = Float(pixels[start + 2])
            <PIXEL>
        }
        try interpreter.copy(input.withUnsafeBufferPointer { Data(buffer: $0) }, toInputAt: 0)
        try interpreter.invoke()
        let data = try interpreter.output(at: 0).data
        let logits = data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        return names[logits.indices.max { logits[$0] < logits[$1] }!]
    }
}
"""
_JAVASCRIPT = """
import * as ort from "onnxruntime-web";

const names = [<NAMES>];
const mean = [<MEAN>];
const std = [<STD>];
const session = await ort.InferenceSession.create("<PATH>");

// pixels: red, green, blue and alpha of each pixel of a picture of <WIDTH> x <HEIGHT>, as of
// getImageData of a canvas
export async function classify(pixels) {
  const input = [];
  for (let start = 0; start < pixels.length; start += 4) {
    const [red, green, blue] = pixels.slice(start, start + 3);
    <PIXEL>
  }
  const shape = [1, <HEIGHT>, <WIDTH>, <CHANNELS>];
  const images = new ort.Tensor("float32", Float32Array.from(input), shape);
  const { logits } = await session.run({ images });
  return names[logits.data.indexOf(Math.max(...logits.data))];
}
"""
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
    template = _KOTLIN.replace("<PIXEL>", _pixel(report, "kotlin"))
    return _filled(template, report, path, "kotlin")


def on_ios(report: Entry, path: str) -> str:
    """A class in Swift that names the class of an image."""
    template = _SWIFT.replace("<PIXEL>", _pixel(report, "swift"))
    return _filled(template, report, path, "swift")


def on_the_web(report: Entry, path: str) -> str:
    """A module in JavaScript that names the class of a canvas's pixels."""
    template = _JAVASCRIPT.replace("<PIXEL>", _pixel(report, "javascript"))
    return _filled(template, report, path, "javascript")
