"""The files beside the weights: configuration, manifest, model card, warnings."""
