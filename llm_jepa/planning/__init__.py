"""Estimates the cost of a recipe before it runs. Imports `inspection` and below; its arithmetic imports nothing."""
