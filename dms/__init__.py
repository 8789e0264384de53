"""A node of a peer-to-peer compute market: the application around the protocol and the actors."""

from typing import Final

__version__: Final = "0.1.0"
