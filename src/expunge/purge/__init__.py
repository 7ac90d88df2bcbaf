# SPDX-License-Identifier: Apache-2.0
"""Finds and deletes leftovers of erased data: superseded weights, checkpoints, exports, caches and copies.

1. ``run`` executes a purge: it surveys, asks for confirmation, deletes and records.
2. ``find`` surveys the leftovers: ``checkpoints``, ``exports``, ``folders`` (named by the user) and
   ``erased`` (copies of erased images).
3. ``delete`` deletes the files of a survey; ``tree`` opens folders without following links.
4. ``copies`` reports the remaining copies for certificates; ``external`` reads the user's list of places
   outside this machine.

``originals`` finds and deletes the user's own files of erased samples.
"""
