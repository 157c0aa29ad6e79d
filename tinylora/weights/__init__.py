"""4-bit weights as bitsandbytes stores them."""
