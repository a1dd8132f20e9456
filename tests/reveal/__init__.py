"""The room is shown by the user's own word alone, whatever is done at whichever door."""
