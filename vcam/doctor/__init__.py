"""Finds what keeps the camera from showing up."""
