"""A directory published on the Hub, with its card. Imports `models` and below."""
