"""A node of a peer-to-peer compute market: the application around the protocol and the actors."""

__version__ = "0.1.0"
