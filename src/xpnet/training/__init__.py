"""Training: steps, the loop over epochs, progress and checkpoints, on one process or several."""
