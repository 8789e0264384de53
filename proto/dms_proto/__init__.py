"""The protocol as pure code: no I/O, clock, randomness, threads or logging."""
