"""Everything that can go wrong, made to go wrong, with a room that can be recognised."""
