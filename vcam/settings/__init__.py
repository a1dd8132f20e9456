"""Everything that can be set: what it is, where it is kept, and what is in force."""
