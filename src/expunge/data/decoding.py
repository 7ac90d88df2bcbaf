# SPDX-License-Identifier: Apache-2.0
"""Decodes pictures with the pixels that Ultralytics trains on, and refuses those that it leaves out."""

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
BY_PILLOW = (".avif", ".heic", ".heif")  # turned upright by their orientation
JPEG_END = b"\xff\xd9"


class BadPicture(ValueError):
    """A picture that Ultralytics leaves out; the message is the reason, as a sentence."""


def check_picture(content: bytes, name: str) -> bool:
    """Check a picture's header as Ultralytics does before a training; the pixels are not decoded.

    Returns:
        Whether it is a JPEG that Ultralytics would write anew, since it does not end where it should.

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
                form, (width, height) = image.format or "", image.size
    except Exception as error:  # whatever Pillow's decoders raise, also as Ultralytics patches it
        raise BadPicture(f"It is not an image that can be decoded ({type(error).__name__}).") from error
    if min(width, height) < MIN_SIDE:
        raise BadPicture(f"It has {width}x{height} pixels; each side needs at least {MIN_SIDE}.")
    if form.lower() not in FORMATS:
        raise BadPicture(f"Its content is {form}, a format that Ultralytics does not read.")
    if form == "TIFF" and name.lower().endswith(BY_PILLOW):  # its orientation would depend on Pillow's way in
        raise BadPicture("It is a TIFF file under another suffix: rename it.")
    return form.lower() == "jpeg" and content[-2:] != JPEG_END


def decode_picture(content: bytes, name: str, kind: str = "yolo") -> NDArray[np.uint8]:
    """Decode a picture as Ultralytics does: by its suffix, 8 bits a channel, upright.

    Args:
        content: The file's bytes.
        name: The file's name or path.
        kind: ``yolo`` or ``folders``; Ultralytics reads TIFF for detection in another way.

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
        raise BadPicture("It cannot be decoded: it is damaged, cut off, or of a kind that is not read.")
    if image.dtype == np.uint16:
        image = (image // 256).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BadPicture(f"Its pixels are {image.dtype} in the shape {image.shape}; 8 bits of 3 are read.")
    return image


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep OpenCV from printing what is wrong with a picture: it is reported once, with the others."""
    from cv2.utils import logging

    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _colour_tiff(data: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return the first page of a colour TIFF without alpha; None where it is grey."""
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
    """Let Pillow read HEIF where its plugin is installed."""
    with suppress(ImportError):
        importlib.import_module("pi_heif").register_heif_opener()
