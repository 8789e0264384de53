"""The dms command: parse, call the node over JSON-RPC, print."""
