"""A whole market on one machine: several nodes, each its own processes and home, joined over libp2p on loopback.

`topology` says which nodes there are, as data; docker-compose.yml describes the same market with containers, and a test compares them.
"""
