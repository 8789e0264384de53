"""Who is there: the peers of a node, as a pure machine."""
