"""An ONNX file as plain data, read without executing anything and without leaving its folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, helper, numpy_helper

from pfrl.models.onnx.tidy import tidy

OLDEST, NEWEST = 9, 26
"""Versions of the operator set that are understood."""
NEWEST_IR = int(onnx.IR_VERSION)
"""Version of the format itself."""
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
QUANTIZED = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv"),
    *("QLinearMatMul", "ConvInteger", "MatMulInteger"),
)
HALF: dict[int, str] = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
DOMAINS = ("", "ai.onnx")


class OnnxError(ValueError):
    """An ONNX file that cannot become a network; the message says why and what to do."""


class Node(NamedTuple):
    """One operation; the name of an input that is left out is empty.

    Attributes:
      op: the operator, such as ``Conv``.
      name: the node's own, or one made of its operator and place.
      inputs, outputs: names of values.
      attributes: numbers, strings (as ``str``), arrays, and lists of them.
      proto: as it is in the file.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: onnx.NodeProto


class Input(NamedTuple):
    """An input of the network: its name, its type, and its sizes, None where they are free."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]


class OnnxFile(NamedTuple):
    """What a file holds.

    Attributes:
      path: of the file.
      opset: version of the operator set.
      nodes: in an order in which they can be computed.
      arrays: initializers and ``Constant`` nodes by name.
      constants: the names among them that come from ``Constant`` nodes.
      inputs, outputs: of the network.
      metadata: strings that the file carries along.
      model: the whole of it, arrays of other files included.
    """

    path: Path
    opset: int
    nodes: tuple[Node, ...]
    arrays: dict[str, np.ndarray]
    constants: frozenset[str]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]
    model: onnx.ModelProto


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """What goes wrong with a file's network in here is said in a sentence.

    Raises:
      OnnxError: in place of what NumPy, JAX or a look-up says of a network that makes no sense.
    """
    try:
        yield
    except OnnxError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise OnnxError(
            f"{path} is damaged, or not understood ({type(error).__name__}: {_first_line(error)});"
            " export it again"
        ) from error


def read(path: Path) -> OnnxFile:
    """Read an ONNX file.

    Raises:
      OnnxError: if it is missing, damaged, too new or too old, quantized, in half precision, has
        control flow, or keeps arrays outside of its folder.
    """
    model = _parsed(path)
    with understood(path):
        return _read(path, model)


def _read(path: Path, model: onnx.ModelProto) -> OnnxFile:
    opset = _opset(path, model)
    if model.ir_version > NEWEST_IR:
        raise OnnxError(
            f"{path} is of version {model.ir_version} of the format, which is too new; export it"
            f" with one up to {NEWEST_IR}"
        )
    _refuse(path, model)
    _read_external(path, model)
    tidy(model)
    graph = model.graph
    try:
        arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        nodes = [_node(number, each) for number, each in enumerate(graph.node)]
    except (ValueError, TypeError, KeyError) as error:
        raise OnnxError(f"{path} is damaged ({_first_line(error)}); export it again") from error
    constants = {node.outputs[0]: _constant(path, node) for node in nodes if node.op == "Constant"}
    return OnnxFile(
        path,
        opset,
        tuple(node for node in nodes if node.op != "Constant"),
        arrays | constants,
        frozenset(constants),
        tuple(_input(path, each) for each in graph.input if each.name not in arrays),
        tuple(each.name for each in graph.output),
        {each.key: each.value for each in model.metadata_props},
        model,
    )


def _parsed(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise OnnxError(f"no file {path}; expected an ONNX network")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise OnnxError(f"{path} is no ONNX file, or is damaged; export it again") from error
    except OSError as error:
        raise OnnxError(f"{path} cannot be read ({error.strerror})") from error
    if not model.graph.node or not model.graph.output:
        raise OnnxError(f"{path} holds no network, or is damaged; export it again")
    return model


def _opset(path: Path, model: onnx.ModelProto) -> int:
    versions = [each.version for each in model.opset_import if each.domain in DOMAINS]
    opset = max(versions, default=1)
    if not OLDEST <= opset <= NEWEST:
        age = "old" if opset < OLDEST else "new"
        raise OnnxError(
            f"{path} uses opset {opset}, which is too {age}; export it with one from {OLDEST} to"
            f" {NEWEST}, such as opset_version=18"
        )
    return opset


def _refuse(path: Path, model: onnx.ModelProto) -> None:
    """Networks that are no plain float32 program."""
    for number, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{number}"
        if node.op_type in CONTROL_FLOW:
            raise OnnxError(
                f"{path} has control flow ('{node.op_type}', node '{name}'); export the network"
                " with the branch or the number of steps fixed"
            )
        if node.op_type in QUANTIZED:
            raise OnnxError(
                f"{path} is quantized already ('{node.op_type}', node '{name}'); give the float32"
                " network that it was made of"
            )
    for tensor in model.graph.initializer:
        if tensor.data_type in HALF:
            raise OnnxError(
                f"{path} is in {HALF[tensor.data_type]} ('{tensor.name}'); export the network in"
                " float32"
            )


def _read_external(path: Path, model: onnx.ModelProto) -> None:
    """Bring in arrays that lie in other files; only files in the folder of ``path`` are read."""
    folder = path.resolve().parent
    for tensor in _tensors(model):
        if not external_data_helper.uses_external_data(tensor):
            continue
        info = external_data_helper.ExternalDataInfo(tensor)
        place = (folder / info.location).resolve()
        if Path(info.location).is_absolute() or not place.is_relative_to(folder):
            raise OnnxError(
                f"{path} keeps '{tensor.name}' in {info.location}, outside of its folder, which is"
                " not read; move the file beside it and export again"
            )
        if not place.is_file():
            raise OnnxError(
                f"{path} keeps '{tensor.name}' in {info.location}, and there is no such file"
                " beside it; copy both"
            )
        offset, length = info.offset or 0, info.length
        with place.open("rb") as stream:
            stream.seek(offset)
            content = stream.read() if length is None else stream.read(length)
        if len(content) != _bytes(tensor):
            raise OnnxError(
                f"{place} is damaged: it has {len(content)} bytes of '{tensor.name}', expected"
                f" {_bytes(tensor)}; copy it again"
            )
        tensor.raw_data = content
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _bytes(tensor: onnx.TensorProto) -> int:
    elements = int(np.prod(tensor.dims, dtype=np.int64))
    return elements * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _node(number: int, proto: onnx.NodeProto) -> Node:
    op = proto.op_type if proto.domain in DOMAINS else f"{proto.domain}.{proto.op_type}"
    return Node(
        op,
        proto.name or f"{proto.op_type}_{number}",
        tuple(proto.input),
        tuple(proto.output),
        {each.name: _plain(helper.get_attribute_value(each)) for each in proto.attribute},
        proto,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        # Operators of other makers keep all kinds of things in strings.
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value


def _constant(path: Path, node: Node) -> np.ndarray:
    kinds = {"value": None, "value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    for key, dtype in kinds.items():
        if key in node.attributes:
            return np.asarray(node.attributes[key], dtype)
    raise OnnxError(
        f"{path} has a constant that is no array of numbers (node '{node.name}'); export the"
        " network without it"
    )


def _input(path: Path, value: onnx.ValueInfoProto) -> Input:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise OnnxError(
            f"the input '{value.name}' of {path} has no shape; export it with example inputs"
        )
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if kind.elem_type in HALF:
        raise OnnxError(f"{path} is in {HALF[kind.elem_type]}; export the network in float32")
    sizes = [each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim]
    # Some writers put 0 or -1 for what is free.
    return Input(value.name, dtype, tuple(size if size and size > 0 else None for size in sizes))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
