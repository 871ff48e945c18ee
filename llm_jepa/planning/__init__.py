"""What a recipe costs before it runs: tokens, FLOPs, bytes, seconds, money."""
