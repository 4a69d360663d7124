"""What the Makefile runs: development servers, demonstrations, checks; not in the package."""
