"""Training: options, the loop, checkpoints, history, the likelihood protocol, and the bundle of a run."""
