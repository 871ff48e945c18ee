"""Trains, scores and compares arms x seeds of one recipe. Imports `inspection`, `evaluation` and below."""
