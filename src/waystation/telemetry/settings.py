"""Settings of what operators see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """Which log lines are written, and how they look."""

    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """Least severe line that is written. `info` adds the life of the process, never single requests."""

    log_format: Literal["text", "json"] = "text"
    """`text` is for people; `json` writes one object a line, for log collectors."""
