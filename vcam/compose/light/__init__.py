"""Light on the person: what a camera and a room made of them, brought closer to the backdrop."""
