"""Log lines: the standard library's logging, set up once, as text or as JSON.

A log call is a fixed short sentence with the facts in `extra`:
`logger.warning("append failed", extra={"shard": 3})`. Facts therefore stay apart
from prose, and a collector can count and filter by either.

What always holds: a line never raises because of the facts it carries, and one
record cannot pass for two, whatever a client put into it. Bodies and secrets are
never logged; that is the caller's to keep, as nothing here could tell.

This is written here and not taken from a library because those that print JSON
(python-json-logger, structlog) still leave both promises to their user.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from waystation.telemetry.settings import TelemetrySettings

_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# C0 and C1 controls, and the two separators that some viewers take for line breaks.
# A terminal escape in a logged name is then shown and not obeyed.
_CONTROL_CODES = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _CONTROL_CODES}
_ESCAPES_IN_TRACEBACK = {code: escape for code, escape in _ESCAPES.items() if chr(code) not in "\n\t"}


def configure_logs(settings: TelemetrySettings, stream: TextIO | None = None) -> None:
    """Send every log line and Python warning of the process to one stream.

    Called once, at start; called again, it replaces what the last call set up.

    Args:
        settings: which lines, in which format.
        stream: where they go; standard error when `None`.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL logger: message key=value …`; a traceback follows, each line of it indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as a line, without its line break."""
        facts = "".join(f" {name}={_text(value)}" for name, value in _extras(record).items())
        message = record.getMessage().translate(_ESCAPES)
        line = f"{_time(record)} {record.levelname} {record.name}: {message}{facts.translate(_ESCAPES)}"
        traceback = _traceback(self, record)
        if traceback is None:
            return line
        # Indented, so that no line of an exception's text passes for a record of its own.
        return line + "".join(
            f"\n    {part}" for part in traceback.translate(_ESCAPES_IN_TRACEBACK).split("\n")
        )


class JsonFormatter(logging.Formatter):
    """One JSON object: `time`, `level`, `logger`, `message`, the extras, and `exception` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line of ASCII JSON, without its line break."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        traceback = _traceback(self, record)
        if traceback is not None:
            fields["exception"] = traceback
        for name, value in _extras(record).items():
            # An extra never hides a field that readers rely on.
            fields[f"{name}_" if name in fields else name] = value
        try:
            return _json(fields)
        except Exception:  # whatever a foreign `__str__` or a circular value raises
            return _json({name: _safe(value) for name, value in fields.items()})


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, UTC, milliseconds: sorts as text and means the same on every machine."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts) or None


def _text(value: object) -> str:
    """A fact as text, quoted when it could be taken for more than one."""
    text = _string(value)
    plain = text != "" and not any(mark in text for mark in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


def _json(value: object) -> str:
    # `allow_nan=False`: NaN is not JSON, and a collector would drop the whole line.
    return json.dumps(value, default=str, allow_nan=False)


def _safe(value: object) -> Any:
    """`value` if JSON can hold it, else its text."""
    try:
        _json(value)
    except Exception:  # as above: it is this value that cannot be written
        return _string(value)
    return value


def _string(value: object) -> str:
    try:
        return str(value)
    except Exception:  # a broken `__str__` costs its value, not the line
        return f"<{type(value).__name__} without text>"
