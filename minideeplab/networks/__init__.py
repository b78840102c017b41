"""The papers' figures as listings. Constructors and a network's `forward` raise TypeError or ValueError, with what they got."""
