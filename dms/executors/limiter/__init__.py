"""Limiters: CPU, memory and process limits, independent of the kind of job they hold."""

from dms.executors.limiter.base import Allowance, Group, Limiter, Reading
from dms.executors.limiter.detect import detect

__all__ = ["Allowance", "Group", "Limiter", "Reading", "detect"]
