"""Envelopes: signed, expiring, replay-proof bytes around a message."""
