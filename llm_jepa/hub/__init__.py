"""Publishes a directory on the Hub, with a model card. Imports `models` and below."""
