# SPDX-License-Identifier: Apache-2.0
"""Which configurations are measured: a broad look with one seed, and the best with several."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.configs import Config

# Few public people (6 of 24): the private data gives much.
FEW = Config("", public_epochs=120, shard_lr=0.001)
DETECT_FEW = [
    replace(FEW, name="few S4 E40", stages=(40,)),
    replace(FEW, name="few S4 E40 polish 4", stages=(40,), polish=4, polish_lr=5e-4),
    replace(FEW, name="few S4 E20 replay", stages=(20,), replay=True, shard_lr=None),
    replace(FEW, name="few S4 E20 replay polish 4", replay=True, shard_lr=None, polish=4, polish_lr=5e-4),
    replace(FEW, name="few S1 E36", shards=1, stages=(36,)),
]
# Many public people (14 of 24): trained briefly, a weak start; trained long, a strong one.
WEAK = Config("", public="many", public_epochs=40)
STRONG = Config("", public="many", public_epochs=120, shard_lr=0.001)
DETECT_MANY = [
    replace(WEAK, name="weak S4 E20 lr 2e-3"),
    replace(WEAK, name="weak S4 E20", shard_lr=0.001),
    replace(WEAK, name="weak S4 E20 lr 2e-3 polish 4", polish=4, polish_lr=5e-4),
    replace(WEAK, name="weak S4 E20 lr 2e-3 polish 4 @ 1.5e-3", polish=4, polish_lr=1.5e-3),
    replace(STRONG, name="strong S1 E18", shards=1, stages=(18,)),
    replace(STRONG, name="strong S2 E36", shards=2, stages=(36,)),
    replace(STRONG, name="strong S2 E36 polish 4", shards=2, stages=(36,), polish=4, polish_lr=5e-4),
    replace(STRONG, name="strong S2 E36 polish 4 @ 1e-3", shards=2, stages=(36,), polish=4, polish_lr=1e-3),
    replace(STRONG, name="strong S1 E30+4 risk", shards=1, stages=(30, 4), risk=0.2),
    replace(STRONG, name="strong S1 E18 freeze 11", shards=1, stages=(18,), freeze=11),
]
# Digits: 6 or 30 of 60 contributors are public.
DIGITS = Config("", public_epochs=40, stages=(10,))
DIGITS_MANY = replace(DIGITS, public="many", public_epochs=20)
CLASSIFY_BEST = [
    replace(DIGITS_MANY, name="many S4 E10 lr 4e-4", shard_lr=4e-4),
    replace(DIGITS, name="few S4 E10 lr 7e-4", shard_lr=7e-4),
    replace(DIGITS_MANY, name="many S8 E10 lr 4e-4", shards=8, shard_lr=4e-4),
    replace(DIGITS, name="few S8 E20 lr 7e-4", shards=8, stages=(20,), shard_lr=7e-4),
    replace(DIGITS, name="few S4 E7+6 lr 7e-4", stages=(7, 6), shard_lr=7e-4),
]
CLASSIFY_OTHER = [
    replace(DIGITS, name="few S4 E10"),
    replace(DIGITS, name="few S4 E10 lr 7e-4 polish 2", shard_lr=7e-4, polish=2, polish_lr=7e-4),
    replace(DIGITS, name="few S8 E10", shards=8),
    replace(DIGITS, name="few S8 E10 polish 1", shards=8, polish=1, polish_lr=1e-3),
    replace(DIGITS, name="few S8 E10 polish 2", shards=8, polish=2, polish_lr=1e-3),
    replace(DIGITS_MANY, name="many S4 E10"),
]
GRIDS = {
    "detect": {"best": DETECT_FEW, "broad": DETECT_FEW + DETECT_MANY},
    "classify": {"best": CLASSIFY_BEST, "broad": CLASSIFY_BEST + CLASSIFY_OTHER},
}
