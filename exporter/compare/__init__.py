"""Compares an export with the restored model, token by token."""
