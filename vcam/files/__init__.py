"""Files that the program writes: whole or not there, and playable however writing ends."""
