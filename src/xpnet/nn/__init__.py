"""The network: layers, losses and optimizers, as pure functions of any library's arrays."""
