"""What the network process is told, from the configuration."""

from __future__ import annotations

from dms import __version__
from dms.config import Config
from dms.net.config import NetConfig


def net_config(config: Config, seed: bytes) -> NetConfig:
    """What the network process is told."""
    return NetConfig(
        private_key=seed,
        listen=config.network.listen,
        announce=config.network.announce,
        bootstrap=config.network.bootstrap,
        mdns=config.network.mdns,
        topics=(config.network.topic,),
        envelopes_only=True,
        keepalive_s=config.network.keepalive_s,
        work_bits=config.network.work_bits,
        work_bits_private=config.network.work_bits_private,
        known=config.access.own,
        half_life_s=config.network.forgive_s,
        agent=f"dms/{__version__}",
    )
