"""What a recipe costs before it runs. Imports `inspection` and below; its arithmetic imports nothing."""
