"""What this node and its peers owe each other: a double-entry book, and signed statements of it."""
