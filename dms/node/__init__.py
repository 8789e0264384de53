"""The node process: the one place where all objects are built and joined."""
