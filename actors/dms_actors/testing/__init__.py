"""In-memory twins of the ports and helpers for tests: shipped, because whoever builds on the actors needs them too."""
