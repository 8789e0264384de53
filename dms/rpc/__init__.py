"""The local JSON-RPC: methods, transports, client."""
