"""The simulator as a command: ``python -m dms.sim``, which ``dms sim`` runs. Thousands of seeds, spread over processes, with progress."""
