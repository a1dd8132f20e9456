"""The real daemon, tormented for minutes."""
