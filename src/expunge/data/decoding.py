# SPDX-License-Identifier: Apache-2.0
"""Decode images to the same pixels as Ultralytics, and refuse images that Ultralytics would leave out."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from expunge.data.listing import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_SIDE = 10  # pixels
FORMATS = IMAGE_SUFFIXES | {"jpeg2000"}
TIFF = (".tif", ".tiff")
BY_PILLOW = (".avif", ".heic", ".heif")  # decoded by Pillow, which applies the EXIF orientation
JPEG_END = b"\xff\xd9"


class BadImage(ValueError):
    """An image that Ultralytics would leave out. The message is the reason, as a sentence."""


def check_image(content: bytes, name: str) -> bool:
    """Check an image's header as Ultralytics does before training. The pixels are not decoded.

    Args:
        content: The file's bytes.
        name: The file's name or path.

    Returns:
        True if it is a JPEG without a proper end marker, which Ultralytics would rewrite.

    Raises:
        BadPicture: If Ultralytics would leave it out.
    """
    from PIL import Image

    _register(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
                file_format, (width, height) = image.format or "", image.size
    except Exception as error:  # Pillow's decoders raise many types, also as patched by Ultralytics
        raise BadImage(f"It is not an image that can be decoded ({type(error).__name__}).") from error
    if min(width, height) < MIN_SIDE:
        raise BadImage(f"It has {width}x{height} pixels; each side needs at least {MIN_SIDE}.")
    if file_format.lower() not in FORMATS:
        raise BadImage(f"Its content is {file_format}, a format that Ultralytics does not read.")
    if file_format == "TIFF" and name.lower().endswith(BY_PILLOW):  # decoders disagree about its orientation
        raise BadImage("It is a TIFF file under another suffix: rename it.")
    return file_format.lower() == "jpeg" and content[-2:] != JPEG_END


def decode_image(content: bytes, name: str, kind: str = "yolo") -> NDArray[np.uint8]:
    """Decode an image as Ultralytics does: by its suffix, 8 bits per channel, upright.

    Args:
        content: The file's bytes.
        name: The file's name or path.
        kind: ``yolo`` or ``folders``. Ultralytics reads TIFF files differently for detection.

    Returns:
        Array (H, W, 3) uint8, BGR.

    Raises:
        BadPicture: If it cannot be decoded.
    """
    import cv2
    import numpy as np

    data, suffix = np.frombuffer(content, np.uint8), name.lower()
    image: NDArray[Any] | None = None
    with suppress(cv2.error):
        if kind == "yolo" and suffix.endswith(TIFF) and content:
            image = _colour_tiff(data)
        if image is None and suffix.endswith(BY_PILLOW):
            image = _decode_with_pillow(content, name)
        if image is None and content:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise BadImage("It cannot be decoded: it is damaged, truncated, or of an unsupported format.")
    if image.dtype == np.uint16:
        image = (image // 256).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BadImage(f"Its pixels are {image.dtype} of shape {image.shape}; only 3 x 8 bits are supported.")
    return image


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silence OpenCV's messages about damaged images, which are reported later together."""
    from cv2.utils import logging

    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _colour_tiff(data: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return the first page of a colour TIFF without alpha, or None if it is greyscale."""
    import cv2

    found, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
    return pages[0][..., :3] if found and pages[0].ndim == 3 else None


def _decode_with_pillow(content: bytes, name: str) -> NDArray[Any] | None:
    import cv2
    import numpy as np
    from PIL import Image, ImageOps

    _register(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as picture:
                rgb = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except Exception:  # OpenCV is tried next
        return None
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _register(name: str) -> None:
    if name.lower().endswith((".heic", ".heif")):
        _register_heif()


@cache
def _register_heif() -> None:
    """Register the HEIF plugin with Pillow, if it is installed."""
    with suppress(ImportError):
        importlib.import_module("pi_heif").register_heif_opener()
