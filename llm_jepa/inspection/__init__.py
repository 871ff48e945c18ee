"""Inspects a recipe's rows or a data set before training. Imports `trainer` and below."""
