"""A data set -> rows -> views. Imports `config`, `settings` and `files`."""
