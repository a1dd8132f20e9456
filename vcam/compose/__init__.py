"""From a frame and its matte to the picture that others see: backgrounds, blending, the card."""
