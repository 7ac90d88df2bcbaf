# SPDX-License-Identifier: Apache-2.0
"""Executes erasure requests, from receipt to certificate.

1. ``intake`` opens a request; a person approves, refuses or extends it (``next_step`` says what comes next).
2. ``scope`` resolves the samples and the models that it concerns; ``impact`` and ``descent`` predict what
   happens to each model.
3. ``scheduler`` takes approved requests from the queue and groups them into batches.
4. ``execution`` erases the samples from the dataset and brings every model up to date: ``exact`` for models
   that were trained erasable, ``approximate`` for adopted ones, ``withdrawal`` for models that cannot be
   repaired.
5. ``repair`` finishes work that was deferred, preempted or interrupted; ``skipped_models`` adds models that
   were left out at first.
6. ``audit`` tests a result; ``holds`` stops the repetition of an attempt that failed its audit.
7. ``closing`` records the outcome, lets the catalog forget (``catalog_rows``), issues the certificate and
   closes the request.

``status`` reports on the queue. ``restoration`` repeats erasures after a workspace was restored from a
backup.
"""
