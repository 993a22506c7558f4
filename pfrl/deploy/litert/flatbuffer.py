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
        self, name: str, array: np.ndarray, quantization: Quantization | None = None
    ) -> int:
        """The number of a tensor that holds ``array``; of equal ones without scales the first."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.name, array.shape, array.tobytes())
        if quantization is None and key in self._constants:
            return self._constants[key]
        self._buffers.append(self._schema.BufferT(data=np.frombuffer(key[2], np.uint8)))
        number = self._add(
            name, array.shape, array.dtype.name, len(self._buffers) - 1, quantization
        )
        if quantization is None:
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

    def to_bytes(
        self, source: tuple[str, int], results: Mapping[str, int], metadata: Mapping[str, str]
    ) -> bytes:
        """The file.

        Args:
          source: name and number of the input.
          results: numbers of the outputs by name.
          metadata: strings that the file carries along, by name.
        """
        schema = self._schema
        entries = []
        for name, text in metadata.items():
            entries.append(schema.MetadataT(name=name, buffer=len(self._buffers)))
            data = np.frombuffer(text.encode(), np.uint8)
            self._buffers.append(schema.BufferT(data=data if data.size else None))
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
            buffers=self._buffers,
            metadata=entries,
            signatureDefs=[signature],
        )
        builder = _Builder(sum(map(_size, self._buffers)) + 4096)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

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


class _Builder(flatbuffers.Builder):
    """Does what the generated code does not: aligns arrays of bytes as the schema wants them, and
    writes equal lists of int64 once. Zero points are such lists, one number a channel."""

    def __init__(self, size: int):
        super().__init__(size)
        self._begun = 0, 0
        self._lists: dict[bytes, int] = {}

    def StartVector(self, elemSize, numElems, alignment):
        self._begun = self.Offset(), elemSize
        aligned = ALIGNMENT if elemSize == 1 and numElems >= ALIGNMENT else alignment
        return super().StartVector(elemSize, numElems, aligned)

    def EndVector(self, *arguments):
        count, (begun, size) = self.vectorNumElems or 0, self._begun
        offset = super().EndVector(*arguments)
        if size != 8:  # it may hold offsets, which mean something else at another place
            return offset
        start = len(self.Bytes) - offset
        known = self._lists.setdefault(bytes(self.Bytes[start : start + 4 + 8 * count]), offset)
        if known != offset:
            self.head = len(self.Bytes) - begun
        return known


def _size(buffer: Any) -> int:
    return 0 if buffer.data is None else len(buffer.data) + 2 * ALIGNMENT
