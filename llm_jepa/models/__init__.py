"""Models and tokenizers: found, loaded, merged. Imports `runs` and below."""
