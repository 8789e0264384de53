"""What holds for every test."""

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
"""No time limit for an example: machines that run tests are shared, and a slow example is no wrong one."""
