"""The sandbox: bubblewrap runs that survive the node, and the executor for native commands on top of them."""
