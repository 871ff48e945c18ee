"""What a recipe's settings mean by themselves, read without torch. Imports nothing of the package."""
