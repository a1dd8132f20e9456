"""From pixels to alpha: the BiSeNet person model, its engines, smoothing and edge refinement."""
