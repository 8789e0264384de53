"""Helpers for tests that other packages' tests may use too: strategies, builders, fakes that pass the contract tests of the real thing."""
