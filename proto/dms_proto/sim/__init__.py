"""Whole networks of the same machines under a virtual clock."""
