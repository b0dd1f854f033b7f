"""Training: steps, the loop over epochs, what is kept of it, and the recipes."""
