# SPDX-License-Identifier: Apache-2.0
"""Keyed hashes, from which all randomness in training is derived, and digests of tensors."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def keyed_hash(seed: int, *parts: str | int) -> int:
    """Return a 64-bit hash that depends only on the seed and the parts.

    The parts are encoded as JSON, so ``("a", "bc")`` and ``("ab", "c")`` give different hashes.
    """
    message = json.dumps([seed, *parts], ensure_ascii=False, separators=(",", ":")).encode()
    return int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "big")


def unit_hash(seed: int, *parts: str | int) -> float:
    """Return :func:`keyed_hash` scaled to [0, 1)."""
    return (keyed_hash(seed, *parts) >> 11) / (1 << 53)


def plain_json(value: Any) -> Any:
    """Return the value in JSON types: keys become strings, tuples lists, NaN and infinity None."""
    if isinstance(value, dict):
        return {str(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def tensor_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return ``sha256:…`` over tensors sorted by name, independent of the file format.

    For each tensor: UTF-8 name, NUL, dtype, NUL, shape, NUL, contiguous little-endian bytes. Floats are
    hashed as fp32, integers as stored.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
        array = tensor.contiguous().numpy()
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        for part in (name, str(array.dtype.name), "x".join(map(str, array.shape))):
            digest.update(part.encode() + b"\0")
        digest.update(array.tobytes())
    return f"sha256:{digest.hexdigest()}"


def rounded_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return :func:`tensor_digest` of the tensors rounded to fp16, as Ultralytics saves them."""
    return tensor_digest({k: v.half() if v.is_floating_point() else v for k, v in tensors.items()})
