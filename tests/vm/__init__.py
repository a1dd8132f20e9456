"""Real cameras in a real kernel."""
