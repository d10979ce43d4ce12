"""Torch modules on plain tensors: the parts that `latentode.models` puts together."""
