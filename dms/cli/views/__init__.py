"""Results as blocks: what a person sees of each. No view asks the node anything."""

from __future__ import annotations
