"""Compiles the loops over pixels before a release; what users run is in `segmentation.ahead`."""
