"""The whole block as one autograd function, for training on large maps."""
