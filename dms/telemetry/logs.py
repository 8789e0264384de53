"""Logging of the node: one line per record, text or JSON, rotated by size.

A text line is ``time LEVEL logger [ids] message``::

    2026-03-01T12:00:00.123Z INFO dms.node.market [request=r-3f2a allocation=a-77] committed to …AB12cd34 at 0.02 credits

Ids ride in ``extra``: ``log.info("committed", extra={"request": request.id})``; `ID_FIELDS` names those that are shown. Whatever a peer or a job
could have put into a message is escaped, so a record is always one line and cannot move the cursor of a terminal.

=========  ====================================================================================================
level      what it is for
=========  ====================================================================================================
error      something was lost or a promise broken; a person must act
warning    works, but needs attention soon: refusals above a rate, a process restarted, a clock off
info       what a person will want to know later: onboarded, joined, committed, ended, with reasons
debug      every message and decision; for developers, several lines per request
=========  ====================================================================================================
"""

from __future__ import annotations

import json
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final, TextIO

from dms.config.paths import open_private
from dms.config.settings import Log

ID_FIELDS: Final = ("cause", "request", "bid", "allocation", "peer")
"""Names in `extra` that are shown as ids, in this order."""
ROOTS: Final = ("dms", "dms_actors")
"""The loggers that are ours. Libraries' own loggers come through at warning and above."""
MAX_MESSAGE: Final = 8192
"""Characters of a message that are kept: a peer's megabyte must not become a log's."""


class TextFormatter(logging.Formatter):
    """``time LEVEL logger [ids] message`` on exactly one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        ids = " ".join(f"{name}={value}" for name, value in _ids(record).items())
        where = f"{record.name} [{ids}]" if ids else record.name
        return one_line(f"{_stamp(record)} {record.levelname} {where} {_message(self, record)}")


class JsonFormatter(logging.Formatter):
    """One JSON object per line: at, level, logger, message, the ids, and `error` with the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "at": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_MESSAGE],
            **_ids(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)[-MAX_MESSAGE:]
        return json.dumps(line, ensure_ascii=True)


def set_up(settings: Log, file: Path | None = None, terminal: TextIO | None = None) -> None:
    """Sends our records to `file` (rotated, 0600) and `terminal`; replaces what an earlier call set up.

    Args:
        settings: level, form and rotation.
        file: the log of this process; None for none.
        terminal: usually stderr, for a node in the foreground; None for none.
    """
    handlers: list[logging.Handler] = []
    if file is not None:
        handlers.append(_PrivateRotatingFile(file, settings))
    if terminal is not None:
        handlers.append(logging.StreamHandler(terminal))
    formatter = JsonFormatter() if settings.json else TextFormatter()
    root = logging.getLogger()
    shut_down()
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.set_name(_OURS)
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ROOTS:
        logging.getLogger(name).setLevel(settings.level.upper())
    logging.captureWarnings(True)


def shut_down() -> None:
    """Removes and closes the handlers of `set_up`. Idempotent."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler.get_name() == _OURS]:
        root.removeHandler(handler)
        handler.close()
    logging.captureWarnings(False)


def one_line(text: str) -> str:
    """`text` with line ends and other control characters written as escapes, and surrogates replaced."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


_OURS: Final = "dms"


class _PrivateRotatingFile(RotatingFileHandler):
    """Rotates by size; files are 0600 and links are not followed."""

    def __init__(self, file: Path, settings: Log) -> None:
        super().__init__(file, maxBytes=settings.max_bytes, backupCount=settings.backups, encoding="utf-8", delay=True)

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=open_private)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk must not end the node or flood its terminal: the first failure is shown, the next are counted by silence."""
        if not getattr(self, "_told", False):
            self._told = True
            error = sys.exc_info()[1]
            print(f"dms: the log {self.baseFilename} lost a record: {error!r}", file=sys.stderr)


def _stamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _ids(record: logging.LogRecord) -> dict[str, str]:
    found = {name: getattr(record, name, None) for name in ID_FIELDS}
    return {name: str(value)[:128] for name, value in found.items() if value}


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    message = record.getMessage()[:MAX_MESSAGE]
    if record.exc_info:
        message += "\n" + formatter.formatException(record.exc_info)[-MAX_MESSAGE:]
    return message
