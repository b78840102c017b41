"""What the notebooks need: figures, exercise cards, the explorer."""
