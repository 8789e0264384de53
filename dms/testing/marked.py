"""Processes of one test, found by a mark that it has made up: other tests run on the same machine."""

from __future__ import annotations

import psutil


def marked(mark: str) -> list[psutil.Process]:
    """Those with the mark among their arguments."""
    return [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or ())]
