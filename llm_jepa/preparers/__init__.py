"""Shared by the scripts of `data/`: published files, or generated rows -> JSON Lines with a dataset card."""
