"""Runs untrusted programs within limits, and says what they used."""
