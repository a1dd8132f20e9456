"""VBG Camera: a virtual camera that shows you and never the room."""

__version__ = "0.2.0"
