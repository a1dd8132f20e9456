"""Files to pixels: which kinds of file are read, and one reader for each, for every part."""
