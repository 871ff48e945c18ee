"""Models scored on held-out rows, and their embeddings looked at. Imports `models`, `data` and `scoring`."""
