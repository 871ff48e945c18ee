"""A run's output directory: what may be there, its lock, its record. Imports `settings` and `files`."""
