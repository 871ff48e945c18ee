"""A recipe's settings, read, checked and listed without torch. Imports nothing of the package."""
