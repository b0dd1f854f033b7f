"""The network: layers, losses, optimizers; pure functions of arrays of any library."""
