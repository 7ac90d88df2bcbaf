# SPDX-License-Identifier: Apache-2.0
"""Averaging against a simple implementation, digests against their definition, atomic writes."""

from __future__ import annotations

import errno
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import StorageError
from expunge.exact.merge import average
from expunge.storage import files
from expunge.storage.files import write_atomically
from expunge.storage.hashing import keyed_hash, tensor_digest, unit_hash
from expunge.training.checkpoint import State, load_part, load_state, save_state


def test_batch_norm_statistics_are_those_of_the_mixture() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = [torch.randn(4000, 3, generator=generator) * (s + 1) + s for s in range(3)]
    states = [{"bn.running_mean": g.mean(0), "bn.running_var": g.var(0, unbiased=False)} for g in groups]
    mixture = torch.cat(groups)
    merged = average(states)
    assert torch.allclose(merged["bn.running_mean"], mixture.mean(0), atol=1e-5)
    assert torch.allclose(merged["bn.running_var"], mixture.var(0, unbiased=False), rtol=1e-5)
    plain = torch.stack([s["bn.running_var"] for s in states]).mean(0)
    assert not torch.allclose(plain, merged["bn.running_var"], rtol=0.01), "negative control"


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=6))
def test_weights_are_averaged_in_float64(values: list[float]) -> None:
    states = [{"w": torch.tensor([v]), "n": torch.tensor(i)} for i, v in enumerate(values)]
    merged = average(states)
    total = np.float64(0)
    for v in values:
        total += np.float64(np.float32(v))
    assert merged["w"].item() == np.float32(total / len(values))
    assert merged["n"].item() == len(values) - 1


def test_a_single_state_is_returned_unchanged() -> None:
    state = {"w": torch.randn(3), "bn.running_mean": torch.randn(2), "bn.running_var": torch.rand(2)}
    assert tensor_digest(average([state])) == tensor_digest(state)


def test_the_digest_follows_its_definition() -> None:
    tensors = {"b": torch.tensor([[1.5, -2.0]], dtype=torch.float16), "a": torch.tensor([3, 4])}
    digest = hashlib.sha256(
        b"a\0int64\0"
        + b"2\0"
        + struct.pack("<2q", 3, 4)
        + b"b\0float32\0"
        + b"1x2\0"
        + struct.pack("<2f", 1.5, -2.0)
    )
    assert tensor_digest(tensors) == f"sha256:{digest.hexdigest()}"


@pytest.mark.parametrize(
    "changed",
    [
        {"a": torch.tensor([1.0, 2.5])},
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1, 2])},
        {},
    ],
)
def test_every_change_changes_the_digest(changed: dict[str, torch.Tensor]) -> None:
    assert tensor_digest(changed) != tensor_digest({"a": torch.tensor([1.0, 2.0])})


@given(st.text(), st.text(), st.integers(), st.integers(-5, 5))
def test_keyed_hashes_separate_their_parts(a: str, b: str, seed: int, epoch: int) -> None:
    assert keyed_hash(seed, a, b) != keyed_hash(seed, a + b, "") or b == ""
    assert keyed_hash(seed, a, epoch) != keyed_hash(seed, a, str(epoch))
    assert 0 <= unit_hash(seed, a) < 1


def test_a_state_can_be_saved_and_loaded(tmp_path: Path) -> None:
    state = State(
        {"w": torch.randn(2, 3), "n": torch.tensor(7)}, {"w": torch.randn(2, 3), "n": torch.tensor(7)},
        {"0.exp_avg": torch.randn(2, 3), "0.step": torch.tensor(5.0)}, {"1.rate": 0.1}, 5, 3,
    )  # fmt: skip
    save_state(tmp_path / "s.safetensors", state, {"key": "k"})
    again, about = load_state(tmp_path / "s.safetensors")
    for part in ("model", "ema", "optimizer"):
        assert tensor_digest(getattr(again, part)) == tensor_digest(getattr(state, part))
    assert (again.scalars, again.ema_updates, again.epoch, about) == (state.scalars, 5, 3, {"key": "k"})
    assert tensor_digest(load_part(tmp_path / "s.safetensors", "ema")) == tensor_digest(state.ema)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="could not be written") as caught:
        write_atomically(path, b"new")
    assert "full" in caught.value.why
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
