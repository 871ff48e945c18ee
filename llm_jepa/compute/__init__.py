"""What a step computes, in FLOPs, and what a device can. Imports nothing of the package."""
