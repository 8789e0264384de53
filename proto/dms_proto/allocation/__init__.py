"""The allocation's life, as a pure machine."""
