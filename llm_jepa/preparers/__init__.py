"""What the scripts of `data/` share: published files -> JSON Lines with a card. Imports `files` and `entry`."""
