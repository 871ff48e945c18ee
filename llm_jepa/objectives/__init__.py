"""The auxiliary terms: what predicts what, by which loss. Imports `layouts`; `losses` imports nothing."""
