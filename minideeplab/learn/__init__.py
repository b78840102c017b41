"""What surrounds a trained network: its file, prediction over scales and mirror images, a photo and its answer."""
