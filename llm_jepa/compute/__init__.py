"""FLOPs of a training step, and speed and memory of GPUs. Imports nothing of the package."""
