"""Carrying weights and deltas to the device."""

from tinylora import LowRankDelta, QuantizedWeight


def weight_on_device(weight):
    tensors = {name: tensor.cuda() for name, tensor in weight.to_tensors("w").items()}
    return QuantizedWeight.from_tensors("w", tensors)


def delta_on_device(delta):
    return LowRankDelta(delta.left.cuda(), delta.right.cuda(), delta.rounding)
