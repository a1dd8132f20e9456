"""Whole frames on an NVIDIA GPU: from the camera's bytes to the composite, in torch and Triton."""
