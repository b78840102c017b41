"""The papers' figures as listings."""
