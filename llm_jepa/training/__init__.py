"""What a training run needs beside the loss: checkpoints, logs, refusals. Imports `objectives` and below."""
