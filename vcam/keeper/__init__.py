"""The keeper: a small process that holds the virtual cameras while the daemon comes and goes.

It imports neither numpy nor anything that is slow or large: it is to cost a few megabytes.
"""
