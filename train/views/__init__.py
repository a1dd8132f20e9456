"""Random views of pictures, as webcams would show them: drawn once, rendered anywhere."""
