"""The writing over the picture: the name tag, its letters, and times that run."""
