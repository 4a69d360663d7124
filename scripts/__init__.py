"""What the Makefile runs: development servers, demonstrations, checks. Never part of the package."""
