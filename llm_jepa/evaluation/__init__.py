"""Scores models on held-out rows, and measures their embeddings. Imports `models`, `data` and `scoring`."""
