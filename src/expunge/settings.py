# SPDX-License-Identifier: Apache-2.0
"""What a workspace is set to: ``settings.toml`` in it, or the defaults here where there is none."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.catalog.clock import DEFAULTS, Rules, zone_of
from expunge.errors import InputError
from expunge.user_files import parse_toml, read_text

FILE = "settings.toml"  # also known to workspace.py, which must not import pydantic
Days = Annotated[int, Field(ge=0, le=365)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClockSettings(_Section):
    """``[clock]``: see :class:`expunge.catalog.clock.Rules`."""

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
    """``[refusal]``: what article 12(4) wants told to whom a request is refused."""

    complaint: str = (
        "You may lodge a complaint with a supervisory authority, in particular where you live or work, and"
        " seek a judicial remedy (GDPR articles 77 and 79)."
    )


class CatalogSettings(_Section):
    """``[catalog]``: the URL of a PostgreSQL database, in place of the workspace's own SQLite file."""

    url: Annotated[str, Field(pattern=r"^postgresql(\+\w+)?://")] | None = None


class AuditSettings(_Section):
    """``[audit]``: how often the same unlearning is tried before it is held for a person to decide."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 1


class BiasSettings(_Section):
    """``[bias]``: of how few subjects (samples, where there are none) a group gets no figure."""

    minimum: Annotated[int, Field(ge=2)] = 10


class WorkspaceSettings(_Section):
    """All sections; each has its defaults."""

    clock: ClockSettings = ClockSettings()
    approval: ApprovalSettings = ApprovalSettings()
    refusal: RefusalSettings = RefusalSettings()
    catalog: CatalogSettings = CatalogSettings()
    audit: AuditSettings = AuditSettings()
    bias: BiasSettings = BiasSettings()

    @cached_property
    def rules(self) -> Rules:
        """The rules of the legal clock."""
        return Rules(**self.clock.model_dump())


def load_settings(root: Path) -> WorkspaceSettings:
    """Read a workspace's settings.

    Args:
        root: The folder ``.expunge``.

    Raises:
        InputError: If the file is no TOML, has an unknown key, or a value that does not fit.
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
            f"{where} in {file} does not fit.", first["msg"], "See docs/requests.md for what may be set."
        ) from error
    zone_of(settings.clock.zone)
    return settings
