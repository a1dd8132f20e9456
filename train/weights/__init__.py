"""Weights on disk: checkpoints, wide ones made narrow, files for the program."""
