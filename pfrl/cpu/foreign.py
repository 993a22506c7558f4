"""Python functions that a compiled program calls on a CPU, on its own memory, without a copy.

XLA calls what is registered through the C interface of its typed FFI (``xla/ffi/api/c_api.h``,
version 0.x, which stays binary compatible); the structures here are those of that header, as far
as they are read. ``jax.pure_callback`` would copy every array in and out.
"""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from re import search

import jax

Function = Callable[[Sequence[int], Sequence[int]], None]
"""``function(addresses of the arguments, addresses of the results)``; it fills the results."""

METADATA = 1
"""Type of the extension with which XLA asks for the version instead of calling."""
INTERNAL = 13
"""Error code of an exception."""


class _Extension(ctypes.Structure):
    pass


_Extension._fields_ = [
    ("struct_size", c_size_t),
    ("type", c_int),
    ("next", POINTER(_Extension)),
]


class _Version(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension_start", c_void_p),
        ("major", c_int),
        ("minor", c_int),
    ]


class _Metadata(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("api_version", _Version), ("traits", c_uint32)]


class _MetadataExtension(ctypes.Structure):
    _fields_ = [("base", _Extension), ("metadata", POINTER(_Metadata))]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension_start", c_void_p),
        ("dtype", c_int),
        ("data", c_void_p),
    ]


class _Buffers(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension_start", c_void_p),
        ("size", c_int64),
        ("types", c_void_p),
        ("values", POINTER(POINTER(_Buffer))),
    ]


class _ErrorArguments(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension_start", c_void_p),
        ("message", c_char_p),
        ("code", c_int),
    ]


_CreateError = ctypes.CFUNCTYPE(c_void_p, POINTER(_ErrorArguments))


class _Api(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension_start", c_void_p),
        ("api_version", _Version),
        ("internal", c_void_p),
        ("create_error", _CreateError),
    ]


class _CallFrame(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("extension_start", POINTER(_Extension)),
        ("api", POINTER(_Api)),
        ("context", c_void_p),
        ("stage", c_int),
        ("arguments", _Buffers),
        ("results", _Buffers),
    ]


_Handler = ctypes.CFUNCTYPE(c_void_p, POINTER(_CallFrame))

_registered: dict[str, object] = {}
"""By name, what XLA holds a bare pointer to; it lives as long as the process."""


def register(name: str, function: Function) -> None:
    """Let compiled programs call a function by a name (``jax.ffi.ffi_call``), on CPUs.

    A name stands for one meaning for good: a compilation cache may hold programs that call it. An
    exception in the function becomes the error of the program.
    """
    if name in _registered:
        return
    version = _version()

    def handle(frame: "ctypes._Pointer[_CallFrame]") -> int | None:
        call = frame[0]
        try:
            if call.extension_start and call.extension_start[0].type == METADATA:
                extension = ctypes.cast(call.extension_start, POINTER(_MetadataExtension))
                stated = extension[0].metadata[0]
                stated.api_version.major, stated.api_version.minor = version
                stated.traits = 0
                return None
            function(_addresses(call.arguments), _addresses(call.results))
        except BaseException as error:
            message = f"{type(error).__name__}: {error}".encode()
            size = ctypes.sizeof(_ErrorArguments)
            given = _ErrorArguments(size, None, message, INTERNAL)
            return call.api[0].create_error(ctypes.byref(given))
        return None

    handler = _Handler(handle)
    _registered[name] = handler
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")


def _addresses(buffers: _Buffers) -> list[int]:
    values = buffers.values
    return [values[n][0].data for n in range(buffers.size)]


def _version() -> tuple[int, int]:
    """Of the interface that this JAX has, by its header."""
    text = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    found = [search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    assert all(found), "no version in c_api.h"
    major, minor = (int(each[1]) for each in found if each)
    return major, minor
