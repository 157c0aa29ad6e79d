"""Upstream's ``tiny_lora_v.pt``: one vector, and projections from a seed."""
