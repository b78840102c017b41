"""What a network learns and how well: prediction over scales and mirror images."""
