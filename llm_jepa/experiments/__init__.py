"""Arms and seeds over one recipe, trained, scored and compared. Imports `inspection`, `evaluation` and below."""
