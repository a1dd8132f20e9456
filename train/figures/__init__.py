"""Figures of person models, and the cards and sheets that show them."""
