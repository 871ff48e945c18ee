"""Shared by the scripts of `data/`: published files -> JSON Lines with a dataset card. Imports `files` and `entry`."""
