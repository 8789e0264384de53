"""Grants: what a signed permission allows, whom a node believes, what it tells those who show none. `dms.trust` reads the tokens themselves."""
