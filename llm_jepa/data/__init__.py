"""Turns a data set into rows with views. Imports `config`, `settings` and `files`."""
