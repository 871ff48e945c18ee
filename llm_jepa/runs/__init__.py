"""What a run leaves in its output directory. Imports `recipe` and below."""
