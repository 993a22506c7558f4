"""Writing LiteRT's file format (``.tflite``): tensors, operators and strings, as one flatbuffer.

The schema's classes come with the package ``ai-edge-litert``; nothing of TensorFlow is needed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np

from pfrl.deploy.runtimes.base import Unavailable

try:
    from ai_edge_litert import schema_py_generated as _schema
except ImportError:
    _schema = None

VERSION = 3
"""Of the format; it has been the same since 2017."""
IDENTIFIER = b"TFL3"
ALIGNMENT = 16
"""Bytes; a runtime may map the file into memory and compute with weights where they lie."""
_DEPRECATED_CODES = 127
"""Operators with a smaller code have it in an older field as well, which old runtimes read."""
_TYPES = {
    "float32": "FLOAT32",
    "int32": "INT32",
    "int8": "INT8",
    "int64": "INT64",
    "bool": "BOOL",
}


class Quantization(NamedTuple):
    """Real values are ``scale * (codes - zero_point)``."""

    scales: Sequence[float]
    """One, or one for each index along ``axis``."""
    zero_points: Sequence[int]
    axis: int = 0


def schema() -> Any:
    """The module with the classes of LiteRT's schema.

    Raises:
      Unavailable: if LiteRT is not installed.
    """
    if _schema is None:
        raise Unavailable("LiteRT is not installed; pip install 'pocketflow-rl[litert]'")
    return _schema


class FlatModel:
    """A network of one graph under construction.

    Tensors are numbered in the order in which they are added, operators run in theirs.

    Raises:
      Unavailable: if LiteRT is not installed.
    """

    def __init__(self):
        self._schema = schema()
        self._tensors: list[Any] = []
        # The first buffer is empty: it is that of all tensors that are computed.
        self._buffers: list[Any] = [self._schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._shapes: list[tuple[int, ...]] = []

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str, quantization: Quantization | None = None
    ) -> int:
        """The number of a new tensor that is computed, or the network's input.

        Args:
          name: that tools show.
          shape: with a batch of 1; the runtime follows a resized input.
          dtype: a name of numpy's: float32, int8, int32, int64 or bool.
          quantization: of integers, what they stand for.
        """
        return self._add(name, shape, dtype, 0, quantization)

    def constant(
        self,
        name: str,
        array: np.ndarray,
        quantization: Quantization | None = None,
        shared: bool = False,
    ) -> int:
        """The number of a tensor that holds ``array``.

        Args:
          shared: whether one tensor stands for all that are equal to it. Not for what has to do
            with channels: by chance some are equal, and the size of the file would follow that.
        """
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.name, array.shape, array.tobytes())
        if shared and key in self._constants:
            return self._constants[key]
        self._buffers.append(self._schema.BufferT(data=np.frombuffer(key[2], np.uint8)))
        self._shapes.append((*array.shape, array.itemsize))
        number = self._add(
            name, array.shape, array.dtype.name, len(self._buffers) - 1, quantization
        )
        if shared:
            self._constants[key] = number
        return number

    def shape(self, number: int) -> list[int]:
        """Of a tensor, by its number."""
        return self._tensors[number].shape

    def operator(
        self,
        op: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str | None = None,
        version: int = 1,
        **fields: Any,
    ) -> None:
        """Appends an operator.

        Args:
          op: its name in the schema's ``BuiltinOperator``, such as CONV_2D.
          inputs, outputs: numbers of tensors; -1 is an input that is left out.
          options: the schema's table of its options, such as Conv2DOptions.
          version: that a runtime has to know at least.
          fields: of the table.
        """
        code = getattr(self._schema.BuiltinOperator, op)
        index = self._codes.setdefault((code, version), len(self._codes))
        self._operators.append(
            self._schema.OperatorT(
                opcodeIndex=index,
                inputs=list(inputs),
                outputs=list(outputs),
                builtinOptionsType=getattr(self._schema.BuiltinOptions, options) if options else 0,
                builtinOptions=getattr(self._schema, f"{options}T")(**fields) if options else None,
            )
        )

    def written(
        self, source: tuple[str, int], results: Mapping[str, int], metadata: Mapping[str, str]
    ) -> "Written":
        """The file.

        Args:
          source: name and number of the input.
          results: numbers of the outputs by name.
          metadata: strings that the file carries along, by name.
        """
        schema = self._schema
        buffers, shapes, entries = list(self._buffers), list(self._shapes), []
        for name, text in metadata.items():
            entries.append(schema.MetadataT(name=name, buffer=len(buffers)))
            data = np.frombuffer(text.encode(), np.uint8)
            buffers.append(schema.BufferT(data=data if data.size else None))
            shapes += [data.shape] if data.size else []
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(name=source[0], tensorIndex=source[1])],
            outputs=[schema.TensorMapT(name=name, tensorIndex=n) for name, n in results.items()],
            signatureKey="serving_default",
        )
        graph = schema.SubGraphT(
            tensors=self._tensors,
            inputs=[source[1]],
            outputs=[*results.values()],
            operators=self._operators,
            name="network",
        )
        model = schema.ModelT(
            version=VERSION,
            operatorCodes=[
                schema.OperatorCodeT(
                    builtinCode=code,
                    deprecatedBuiltinCode=min(code, _DEPRECATED_CODES),
                    version=version,
                )
                for code, version in self._codes
            ],
            subgraphs=[graph],
            description="pfrl",
            buffers=buffers,
            metadata=entries,
            signatureDefs=[signature],
        )
        builder = _Builder(sum(map(_size, buffers)) + 4096)
        root = model.Pack(builder)
        rest = builder.Offset() - (builder.lists[-1].ended if builder.lists else 0)
        builder.Finish(root, file_identifier=IDENTIFIER)
        return Written(bytes(builder.Output()), builder.lists, shapes, rest)

    def _add(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        buffer: int,
        quantization: Quantization | None,
    ) -> int:
        schema = self._schema
        parameters = None
        if quantization is not None:
            parameters = schema.QuantizationParametersT(
                scale=np.array(quantization.scales, np.float32),
                zeroPoint=np.array(quantization.zero_points, np.int64),
                quantizedDimension=quantization.axis,
            )
        self._tensors.append(
            schema.TensorT(
                name=name,
                shape=list(map(int, shape)),
                type=getattr(schema.TensorType, _TYPES[dtype]),
                buffer=buffer,
                quantization=parameters,
                hasRank=True,
            )
        )
        return len(self._tensors) - 1


class List(NamedTuple):
    """A list of numbers in a file that is under construction, which grows towards its beginning.

    Attributes:
      begun, ended: bytes of the file before and after it was written.
      each: bytes of a number; 1 for what a constant holds.
      count: of its numbers.
    """

    begun: int
    ended: int
    each: int
    count: int


class Written(NamedTuple):
    """A file, and what its size is made of.

    Attributes:
      content: its bytes.
      lists: all lists of numbers that were arrays of NumPy's, in the order of writing.
      shapes: of what the lists of bytes hold, in the same order, with the bytes of a number last.
      rest: bytes between the last list and the head of the file, which is aligned.
    """

    content: bytes
    lists: list[List]
    shapes: list[tuple[int, ...]]
    rest: int


class _Builder(flatbuffers.Builder):
    """Does what the generated code does not: aligns arrays of bytes as the schema wants them, and
    writes equal lists of int64 once. Zero points are such lists, one number a channel."""

    def __init__(self, size: int):
        super().__init__(size)
        self.lists: list[List] = []
        self._known: dict[bytes, int] = {}

    def CreateNumpyVector(self, x):
        begun, zeros = self.Offset(), shares(x.itemsize, x.size)
        offset = self._known.get(x.tobytes()) if zeros else None
        if offset is None:
            self.Prep(alignment(x.itemsize, x.size), x.nbytes)
            offset = super().CreateNumpyVector(x)
            if zeros:
                self._known[x.tobytes()] = offset
        self.lists.append(List(begun, self.Offset(), x.itemsize, x.size))
        return offset


def alignment(each: int, count: int) -> int:
    """At multiples of how many bytes a list begins, of so many numbers of so many bytes."""
    return ALIGNMENT if each == 1 and count >= ALIGNMENT else max(each, 4)


def shares(each: int, count: int) -> bool:
    """Whether equal lists are written once: zero points of channels, which are all zero."""
    return each == 8 and count > 1


def _size(buffer: Any) -> int:
    return 0 if buffer.data is None else len(buffer.data) + 2 * ALIGNMENT
