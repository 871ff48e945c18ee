"""Finds, loads and merges models, adapters and tokenizers. Imports `runs` and below."""
