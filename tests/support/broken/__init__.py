"""Deliberately wrong variants: a test that does not catch them proves nothing."""
