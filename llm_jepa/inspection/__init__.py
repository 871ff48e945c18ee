"""What a recipe or a data set holds, before training. Imports `train` and below."""
