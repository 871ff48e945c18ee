"""Estimates the cost of a recipe before it runs. Imports `train` and below; its arithmetic imports nothing."""
