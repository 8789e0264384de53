"""Calls of Python functions: how they are said, and the worker that answers them inside the sandbox. Nothing but the standard library."""
