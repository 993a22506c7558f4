"""Pictures of every kind and size as arrays: decoded, turned upright, resized and cropped."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
FORMATS = ("PNG", "JPEG", "WEBP")
ONE_BYTE_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
MARGIN = 8 / 7
"""The short side of a picture over that of the crop from its centre: 256 for 224, as is usual."""
LARGEST = 4096


class DataError(ValueError):
    """The data set cannot be found or read, or does not fit; the message says what to do."""


class PictureError(ValueError):
    """Why a file is no picture that can be used; the words that follow its name."""


class Reading(NamedTuple):
    """How pictures are read; as it is written behind a folder's name, ``?size=224&skip_broken=1``.

    Attributes:
      size: pixels a side that all are brought to; None takes them as they are, all of one size.
      skip_broken: whether files that cannot be read are left out.
    """

    size: int | None = None
    skip_broken: bool = False

    @property
    def wide(self) -> int:
        """Side of the square that a picture is brought to before the last crop."""
        assert self.size is not None
        return round(self.size * MARGIN)

    @classmethod
    def parse(cls, place: str) -> tuple[str, "Reading"]:
        """The folder's name, and how its pictures are read.

        Raises:
          DataError: if what is behind the question mark is not understood.
        """
        path, mark, text = place.rpartition("?")
        if not mark:
            return place, cls()
        options = dict(parse_qsl(text, keep_blank_values=True))
        size = options.pop("size", None)
        skip = options.pop("skip_broken", "0")
        good = size is None or (size.isdecimal() and 0 < int(size) <= LARGEST)
        if options or not good or skip not in ("0", "1"):
            raise DataError(
                f"'?{text}' does not say how pictures are read; expected --image-size from 1 to"
                f" {LARGEST} pixels, and perhaps --skip-broken"
            )
        return path, cls(None if size is None else int(size), skip == "1")


def decoded(content: bytes, reading: Reading) -> np.ndarray:
    """A file as uint8 ``[H, W, 1]`` if it is grey, else ``[H, W, 3]``, upright, without alpha.

    With a size it is resized to ``reading.wide`` pixels on its short side and cut to a square.

    Raises:
      PictureError: if it is damaged, of another format, or of more than 8 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            mode = image.mode
            if mode in ONE_BYTE_MODES:
                upright = ImageOps.exif_transpose(_plain(image))
                return _array(upright if reading.size is None else _square(upright, reading.wide))
    except UnidentifiedImageError as error:
        raise PictureError("is no whole PNG, JPEG or WebP image") from error
    except Exception as error:  # Pillow's decoders each raise their own
        raise PictureError(f"is no whole PNG, JPEG or WebP image ({error})") from error
    raise PictureError(f"has pixels of mode {mode}, expected 8 bits per channel")


def channels_of(root: Path, name: str, open_file: Callable[[Path, str], IO[bytes]]) -> int:
    """1 or 3 by a file's header alone; 0 if it is no picture that can be used."""
    try:
        with open_file(root, name) as stream, Image.open(stream, formats=FORMATS) as image:
            mode = image.mode
    except Exception:  # Pillow's and zipfile's decoders each raise their own
        return 0
    return 0 if mode not in ONE_BYTE_MODES else 1 if mode in ("1", "L") else 3


def _plain(image: Image.Image) -> Image.Image:
    """Grey or RGB."""
    if image.mode in ("1", "L"):
        plain = image.convert("L")
    else:
        # By way of RGBA: Pillow warns when it drops a palette's transparency in one go.
        opaque = image.convert("RGBA") if "transparency" in image.info else image
        plain = opaque.convert("RGB")
    # What says which side is up stays with the picture.
    plain.info["exif"] = image.info.get("exif", b"")
    if (exif := image.getexif()).get(0x0112, 1) != 1:
        plain.getexif()[0x0112] = exif[0x0112]
    return plain


def _array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _square(image: Image.Image, side: int) -> Image.Image:
    """The middle of a picture whose short side has been brought to ``side`` pixels."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box)


class Broken(NamedTuple):
    """Files that cannot be read: their names, and why the first one cannot."""

    names: tuple[str, ...]
    reason: str


def read_all(
    names: list[str], read: Callable[[str], bytes], reading: Reading
) -> tuple[list[np.ndarray], np.ndarray, Broken]:
    """Every picture that can be read, bool ``[N]`` which they are, and the others.

    Args:
      names: of the files.
      read: from a name to the file's content.
      reading: how.
    """
    pictures, good, reason = [], np.ones(len(names), bool), ""
    for index, name in enumerate(names):
        log.info("reading pictures: %d of %d", index + 1, len(names))
        try:
            try:
                content = read(name)
            except Exception as error:  # zipfile's decoders each raise their own
                raise PictureError(f"is no whole PNG, JPEG or WebP image ({error})") from error
            pictures.append(decoded(content, reading))
        except PictureError as error:
            good[index] = False
            reason = reason or str(error)
    broken = tuple(name for name, whole in zip(names, good, strict=True) if not whole)
    return pictures, good, Broken(broken, reason)
