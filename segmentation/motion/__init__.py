"""Between two frames: change of the picture, flow of the person, smoothing in time."""
