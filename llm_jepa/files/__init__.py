"""Files on disk and from the network: written atomically, checked, staged. Imports nothing of the package."""
