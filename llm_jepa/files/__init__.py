"""Files on disk and from the network: whole or not there, checked, staged. Imports nothing of the package."""
