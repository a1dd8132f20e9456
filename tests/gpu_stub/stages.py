"""Stages of the GPU's process at which a stub of the driver can be lost, or hang."""

STAGES = ("opening", "building", "recording", "frame", "look", "wipe", "close")
PLANTED = ("opening", "building", "frame", "look", "wipe")  # where a call would notice
