"""The ladder: one rung a file, in learning order."""
