"""Makes the tensors of an export: weight plus delta, stored as the format says, measured."""
