"""Every operator in its variants: importing compares with ONNX Runtime, on random images."""

import numpy as np
import pytest

import pfrl
from pfrl.models.onnx.operators.base import OPERATORS
from pfrl.models.onnx.reader import OnnxError
from tests.support.onnx_files import Call, file_of

IMAGE = {"x": ["N", 4, 6, 8]}
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def one(op: str, *inputs: str, **attributes) -> Call:
    return op, list(inputs or ("x",)), attributes


def each(*ops: str, **attributes) -> dict[str, Call]:
    return {op.lower(): one(op, **attributes) for op in ops}


POINTWISE = {
    **each(
        *"Relu Sigmoid Tanh Softsign Softplus Exp Neg Abs Sign Floor Ceil Round Erf Sin".split()
    ),
    **each(*"Cos Tan Atan Elu Selu Celu LeakyRelu ThresholdedRelu HardSigmoid HardSwish".split()),
    "positive": one("Add", "abs", "third"),
    "root": one("Sqrt", "positive"),
    "logarithm": one("Log", "positive"),
    "inverse": one("Reciprocal", "positive"),
    "mish": one("Mish"),
    "elu2": one("Elu", alpha=0.3),
    "hard2": one("HardSigmoid", alpha=0.1, beta=0.4),
    "gated": one("Mul", "x", "sigmoid"),
    "difference": one("Sub", "third", "x"),
    "quotient": one("Div", "x", "positive"),
    "cubed": one("Pow", "x", "three"),
    "power": one("Pow", "positive", "third"),
    "largest": one("Max", "x", "tanh", "channel"),
    "least": one("Min", "x", "channel"),
    "total": one("Sum", "x", "tanh", "channel"),
    "average": one("Mean", "x", "tanh"),
    "clipped": one("Clip", "x", "low", "high"),
    "bounded": one("Clip", "x", "", "high"),
    "parametric": one("PRelu", "x", "channel"),
    "greater": one("Greater", "x", "channel"),
    "fewer": one("LessOrEqual", "x", "third"),
    "below": one("Less", "x", "third"),
    "above": one("GreaterOrEqual", "x", "third"),
    "equal": one("Equal", "x", "x"),
    "any": one("Or", "below", "equal"),
    "odd": one("Xor", "below", "equal"),
    "broken": one("IsNaN", "x"),
    "endless": one("IsInf", "x"),
    "both": one("And", "greater", "fewer"),
    "neither": one("Not", "both"),
    "chosen": one("Where", "neither", "x", "channel"),
    "number": one("Cast", "greater", to=1),
    "same": one("Identity", "number"),
    "dropped": one("Dropout"),
    "modulo": one("Mod", "x", "third", fmod=1),
}
CONTRACTING = {
    "plain": one("Conv", "x", "kernel", "bias", pads=[1, 1, 1, 1]),
    "same": one("Conv", "x", "kernel", auto_pad="SAME_UPPER", strides=[2, 2]),
    "lower": one("Conv", "x", "kernel", auto_pad="SAME_LOWER", strides=[2, 1]),
    "dilated": one("Conv", "x", "kernel", dilations=[2, 2], pads=[0, 1, 2, 3]),
    "grouped": one("Conv", "x", "paired", group=2),
    "depthwise": one("Conv", "x", "single", group=4, pads=[1, 1, 1, 1]),
    "transposed": one("ConvTranspose", "x", "turned", "bias", strides=[2, 2]),
    "uneven": one(
        "ConvTranspose", "x", "turned", strides=[2, 2], pads=[1, 1, 0, 1], output_padding=[1, 1]
    ),
    "upper": one("ConvTranspose", "x", "turned", auto_pad="SAME_UPPER", strides=[2, 2]),
    "pool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "ceil": one("MaxPool", kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1),
    "averaged": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "counted": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "halves": one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "global": one("GlobalAveragePool"),
    "peak": one("GlobalMaxPool"),
    "rows": one("Flatten", "global"),
    "dense": one("Gemm", "rows", "matrix", "bias5", transB=1, alpha=0.5, beta=2.0),
    "dense2": one("Gemm", "rows", "wide"),
    "product": one("MatMul", "x", "columns"),
    "turnedx": one("Transpose", "x", perm=[0, 1, 3, 2]),
    "attention": one("MatMul", "x", "turnedx"),
    "left": one("MatMul", "square", "x"),
    "summed": one("Einsum", "x", "turnedx", equation="nchw,ncwk->nchk"),
}
REDUCING = {
    f"{op.lower()}{i}": one(op, *operands, keepdims=keep)
    for op in "ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare".split()
    for i, (operands, keep) in enumerate(
        ((("x", "space"), 0), (("x", "channels"), 1), (("x", "last"), 0))
    )
} | {
    "sum": one("ReduceSum", "x", "space"),
    "logsum": one("ReduceLogSumExp", "x", "channels"),
    "softmax": one("Softmax", axis=1),
    "logsoftmax": one("LogSoftmax"),
    "norm": one("LpNormalization", axis=1, p=2),
    "local": one("LRN", size=3),
    "instance": one("InstanceNormalization", "x", "four", "four_more"),
    "layer": one("LayerNormalization", "x", "eight", "eight_more"),
    "batch": one("BatchNormalization", "x", "four", "four_more", "mean", "var"),
    "where": one("ArgMax", axis=1, keepdims=0),
    "places0": one("ArgMin", axis=2),
    "squares": one("Mul", "x", "x"),
    "logarithms": one("ReduceLogSum", "squares", "channels"),
    "running": one("CumSum", "x", "one"),
    "best,places": one("TopK", "x", "two"),
}
MOVING = {
    "shape": one("Shape"),
    "batchsize": one("Gather", "shape", "zero"),
    "batches": one("Unsqueeze", "batchsize", "zeros"),
    "target": one("Concat", "batches", "rest", axis=0),
    "rows": one("Reshape", "x", "target"),
    "copied": one("Reshape", "x", "copying"),
    "groups": one("Reshape", "x", "split"),
    "mixed": one("Transpose", "groups", perm=[0, 2, 1, 3, 4]),
    "shuffled": one("Reshape", "mixed", "joined"),
    "turned": one("Transpose", perm=[0, 3, 1, 2]),
    "flat": one("Flatten", "x", axis=1),
    "reversed": one("Transpose", "flat"),
    "flat2": one("Flatten", "x", axis=-1),
    "wide": one("Unsqueeze", "x", "axes"),
    "narrow": one("Squeeze", "wide", "axes"),
    "narrower": one("Squeeze", "wide"),
    "means": one("ReduceMean", "x", "last"),
    "spread": one("Expand", "means", "sizes"),
    "joint": one("Concat", "x", "shuffled", axis=1),
    "a,b": one("Split", "joint", axis=1, num_outputs=2),
    "c,d": one("Split", "joint", "parts", axis=1),
    "cut": one("Slice", "x", "starts", "ends", "cutaxes", "steps"),
    "back": one("Slice", "x", "behind", "front", "widths", "backwards"),
    "third": one("Gather", "x", "two0", axis=1),
    "picked": one("Gather", "x", "several", axis=2),
    "table": one("Gather", "x", "square", axis=3),
    "means0": one("ReduceMean", "x", "space", keepdims=0),
    "most,mostplaces": one("TopK", "means0", "two"),
    "mostcolumn": one("Unsqueeze", "mostplaces", "last"),
    "bright": one("GatherND", "x", "mostcolumn", batch_dims=1),
    "channels": one("Transpose", perm=[1, 0, 2, 3]),
    "chosen": one("GatherND", "channels", "row"),
    "written": one("ScatterND", "channels", "row", "chosen"),
    "peaks,peakplaces": one("TopK", "x", "two", axis=2),
    "valleys": one("Neg", "peaks"),
    "overwritten": one("ScatterElements", "x", "peakplaces", "valleys", axis=2),
    "increased": one("ScatterND", "channels", "other", "chosen", reduction="add"),
    "padded": one("Pad", "x", "pads", "value"),
    "mirrored": one("Pad", "x", "pads", mode="reflect"),
    "edges": one("Pad", "x", "pads", mode="edge"),
    "tiled": one("Tile", "x", "repeats"),
    "pixels": one("DepthToSpace", blocksize=2),
    "pixels2": one("DepthToSpace", blocksize=2, mode="CRD"),
    "depth": one("SpaceToDepth", blocksize=2),
    "upper": one("Trilu", "x"),
    "lower": one("Trilu", "x", "zero", upper=0),
    "range": one("Range", "zero", "ten", "two0"),
    "filled": one("ConstantOfShape", "rest0"),
    "added": one("Add", "filled", "x"),
    "counted": one("Cast", "range", to=1),
    "all": one("Size"),
}
RESIZING = {
    f"r{i}": one("Resize", "x", "", *operands, axes=[2, 3], **attributes)
    for i, (operands, attributes) in enumerate(
        (operands, {"mode": mode, "coordinate_transformation_mode": how, **more})
        for mode, how, more in [
            ("nearest", "asymmetric", {"nearest_mode": "floor"}),
            ("nearest", "half_pixel", {"nearest_mode": "round_prefer_ceil"}),
            ("linear", "half_pixel", {}),
            ("linear", "align_corners", {}),
            ("linear", "pytorch_half_pixel", {}),
            ("linear", "half_pixel", {"antialias": 1}),
            ("cubic", "half_pixel", {}),
            ("cubic", "half_pixel", {"cubic_coeff_a": -0.5, "exclude_outside": 1}),
        ]
        for operands in (("twice",), ("smaller",), ("", "to"))
        # The runtime has cubic for larger images only.
        if mode != "cubic" or operands == ("twice",)
    )
}
ARRAYS = {
    "third": np.float32(0.3).reshape(1),
    "three": np.float32(3),
    "low": np.float32(-0.5),
    "high": np.float32(0.7),
    "channel": normal(4, 1, 1),
    "kernel": normal(5, 4, 3, 3),
    "bias": normal(5),
    "paired": normal(6, 2, 3, 3),
    "single": normal(4, 1, 3, 3),
    "turned": normal(4, 5, 3, 3),
    "matrix": normal(5, 4),
    "bias5": normal(5),
    "wide": normal(4, 7),
    "columns": normal(8, 3),
    "square": normal(6, 6),
    "space": ints(2, 3),
    "channels": ints(1),
    "last": ints(-1),
    "one": np.int64(1),
    "two": ints(2),
    **{name: normal(size) for name, size in (("four", 4), ("four_more", 4), ("mean", 4))},
    **{name: normal(8) for name in ("eight", "eight_more")},
    "var": np.abs(normal(4)) + 0.1,
}
SIZES = {
    "zero": np.int64(0),
    "zeros": ints(0),
    "rest": ints(2, -1),
    "rest0": ints(4, 1, 1),
    "copying": ints(0, -1, 8),
    "split": ints(0, 2, 2, 6, 8),
    "joined": ints(0, 4, 6, 8),
    "axes": ints(1, -1),
    "sizes": ints(1, 4, 6, 5),
    "last": ints(-1),
    "parts": ints(3, 5),
    **{"starts": ints(1, -3), "ends": ints(3, 2**62), "cutaxes": ints(1, 3), "steps": ints(1, 2)},
    **{"behind": ints(-1), "front": ints(-(2**62)), "widths": ints(3), "backwards": ints(-2)},
    "two0": np.int64(2),
    "several": ints(3, 0, -1),
    "square": ints(1, 0, 2, 5).reshape(2, 2),
    "pads": ints(0, 0, 1, 2, 0, 0, 2, 1),
    "value": np.float32(0.5),
    "repeats": ints(1, 2, 1, 3),
    "ten": np.int64(10),
    "space": ints(2, 3),
    "two": ints(2),
    "row": ints(3, 1).reshape(2, 1),
    "other": ints(2, 3).reshape(2, 1),
}
SCALES = {
    "twice": np.array([2, 2], np.float32),
    "smaller": np.array([0.5, 0.75], np.float32),
    "to": ints(9, 5),
}


def used(arrays, calls):
    read = {name for _, operands, _ in calls.values() for name in operands}
    return {name: array for name, array in arrays.items() if name in read}


@pytest.mark.parametrize(
    ("calls", "arrays"),
    [
        (POINTWISE, ARRAYS),
        (CONTRACTING, ARRAYS),
        (REDUCING, ARRAYS),
        (MOVING, SIZES),
        (RESIZING, SCALES),
    ],
    ids=["pointwise", "contracting", "reducing", "moving", "resizing"],
)
def test_operators_agree_with_the_runtime(calls, arrays, tmp_path):
    made = [name for names in calls for name in names.split(",")]
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, used(arrays, calls), 18, made)
    for last in (False, True):
        assert pfrl.from_onnx(path, channels_last=last).variables is not None


OLD = {
    "clipped": one("Clip", min=-0.5, max=0.6),
    "cut": one("Slice", starts=[1, 2], ends=[3, 100], axes=[1, 2]),
    "padded": one("Pad", pads=[0, 0, 1, 1, 0, 0, 2, 0], value=0.25),
    "wider": one("Unsqueeze", axes=[1]),
    "narrow": one("Squeeze", "wider", axes=[1]),
    "sum": one("ReduceSum", axes=[2, 3], keepdims=0),
    "a,b": one("Split", axis=1, split=[1, 3]),
    "softmax": one("Softmax"),
    "dropped": one("Dropout", ratio=0.5),
    "larger": one("Upsample", "x", "twice", mode="nearest"),
    "smooth": one("Upsample", "x", "twice", mode="linear"),
    "best,places": one("TopK", "x", k=2, axis=1),
    "batch": one("BatchNormalization", "x", "four", "four_more", "mean", "var"),
}


def test_operators_of_old_files_have_their_operands_as_attributes(tmp_path):
    calls = {name: call for name, call in OLD.items() if name != "best,places"}
    scales = {"twice": np.array([1, 1, 2, 2], np.float32)}
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, used(ARRAYS | scales, calls), 9)
    source = pfrl.from_onnx(path)
    assert sorted(source.variables) == ["four.scale", "four_more.bias", "mean.mean", "var.var"]


def test_a_small_variance_around_a_large_mean_keeps_its_digits(tmp_path):
    """Of the difference of squares float32 leaves two digits here."""
    calls = {
        "far": one("Add", "x", "hundred"),
        "normal": one("LayerNormalization", "far", "row_scale", axis=-1, epsilon=1e-6),
    }
    arrays = {"hundred": np.float32(100), "row_scale": np.ones(8, np.float32)}
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, arrays, 18, ["normal"])
    assert list(pfrl.from_onnx(path).variables) == ["row_scale.scale"]


def test_images_are_not_normalised_by_their_batch(tmp_path):
    batch = one("BatchNormalization", "x", "four", "four_more", "mean", "var", training_mode=1)
    calls = {"batch,m,v": batch}
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, used(ARRAYS, calls), 15, ["batch"])
    with pytest.raises(OnnxError, match=r"training mode; export after model.eval\(\)"):
        pfrl.from_onnx(path)


def test_an_operator_of_the_table_is_tested():
    tested = {op for calls in (POINTWISE, CONTRACTING, REDUCING, MOVING, RESIZING, OLD)
              for op, _, _ in calls.values()}  # fmt: skip
    newer = {"Gelu", "Swish", "RMSNormalization", "GroupNormalization"}
    # Whole networks of PyTorch have these; no file says 'Variance'.
    networks = {"CastLike", "GatherElements", "Variance"}
    assert set(OPERATORS) - tested - newer == networks


def test_newer_operators(tmp_path):
    calls = {
        "gelu": one("Gelu"),
        "fast": one("Gelu", approximate="tanh"),
        "group": one("GroupNormalization", "x", "four", "four_more", num_groups=2),
    }
    path = file_of(tmp_path / "n.onnx", calls, IMAGE, used(ARRAYS, calls), 21)
    assert sorted(pfrl.from_onnx(path).variables) == ["four.scale", "four_more.bias"]
