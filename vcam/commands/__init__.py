"""The commands that do their work themselves, without a daemon."""
