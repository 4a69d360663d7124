"""What came of a run: limits, latencies, books, thresholds."""
