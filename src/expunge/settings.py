# SPDX-License-Identifier: Apache-2.0
"""Settings of a workspace, read from its ``settings.toml``; the defaults apply to what it does not set."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.catalog.clock import DEFAULTS, DeadlineRules, zone_of
from expunge.errors import InputError
from expunge.storage.user_files import parse_toml, read_text

FILE = "settings.toml"  # repeated in workspace.py, which must not import pydantic
Days = Annotated[int, Field(ge=0, le=365)]


class _Section(BaseModel):
    """A section of the settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClockSettings(_Section):
    """``[clock]``: rules for deadlines; see :class:`expunge.catalog.clock.DeadlineRules`."""

    months: Annotated[int, Field(ge=1, le=12)] = DEFAULTS.months
    extension_months: Annotated[int, Field(ge=0, le=12)] = DEFAULTS.extension_months
    lead_days: Days = DEFAULTS.lead_days
    reminder_days: tuple[Days, ...] = DEFAULTS.reminder_days
    zone: str = DEFAULTS.zone
    roll_to_working_day: bool = DEFAULTS.roll_to_working_day
    holidays: tuple[date, ...] = DEFAULTS.holidays
    tolerance_minutes: Annotated[int, Field(ge=0)] = DEFAULTS.tolerance_minutes


class ApprovalSettings(_Section):
    """``[approval]``: whether a second person must approve a request."""

    four_eyes: bool = False


class RefusalSettings(_Section):
    """``[refusal]``: information about complaints that a refusal must give (article 12(4))."""

    complaint: str = (
        "You may lodge a complaint with a supervisory authority, in particular where you live or work, and"
        " seek a judicial remedy (GDPR articles 77 and 79)."
    )


class CatalogSettings(_Section):
    """``[catalog]``: the URL of a PostgreSQL database, in place of the workspace's own SQLite file."""

    url: Annotated[str, Field(pattern=r"^postgresql(\+\w+)?://")] | None = None


class AuditSettings(_Section):
    """``[audit]``: number of equal unlearning attempts before a model is held for a person's decision."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 1


class BiasSettings(_Section):
    """``[bias]``: smallest group with figures, in subjects (in samples if there are no subjects)."""

    minimum: Annotated[int, Field(ge=2)] = 10


class WorkspaceSettings(_Section):
    """All settings of a workspace."""

    clock: ClockSettings = ClockSettings()
    approval: ApprovalSettings = ApprovalSettings()
    refusal: RefusalSettings = RefusalSettings()
    catalog: CatalogSettings = CatalogSettings()
    audit: AuditSettings = AuditSettings()
    bias: BiasSettings = BiasSettings()

    @cached_property
    def rules(self) -> DeadlineRules:
        """The rules for the deadlines of requests."""
        return DeadlineRules(**self.clock.model_dump())


def load_settings(root: Path) -> WorkspaceSettings:
    """Return the settings of a workspace.

    Args:
        root: The folder ``.expunge``.

    Raises:
        InputError: If the file is not TOML, or has an unknown key or an invalid value.
    """
    file = root / FILE
    try:
        content: dict[str, Any] = parse_toml(read_text(file))
    except FileNotFoundError:
        return WorkspaceSettings()
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read.", str(error), "Correct it, or delete it.") from error
    try:
        settings = WorkspaceSettings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where} in {file} is invalid.", first["msg"], "See docs/requests.md for all settings."
        ) from error
    zone_of(settings.clock.zone)
    return settings
