"""Cameras on a real desktop: session bus, PipeWire, wireplumber, portal."""
