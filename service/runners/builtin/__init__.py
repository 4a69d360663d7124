"""Flows that come with Tollgate: real work, no network, the same result on every run."""
