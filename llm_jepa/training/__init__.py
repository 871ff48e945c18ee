"""Training, all but the loss: checkpoints, resuming, logs, refusals, launchers. Imports `objectives` and below."""
