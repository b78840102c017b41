"""The ladder: one rung a file, in learning order. Constructors raise TypeError or ValueError that names argument and value."""
