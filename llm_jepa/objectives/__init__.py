"""The auxiliary loss terms, their predictor and their diagnostics. Imports `layouts`; `losses` imports nothing."""
