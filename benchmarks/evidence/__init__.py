"""The page of results, made from the committed results alone. Imports `llm_jepa.experiments` and below."""
