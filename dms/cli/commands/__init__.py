"""One file per group of commands. A command parses, calls the node, and hands the result to a view."""

from __future__ import annotations
