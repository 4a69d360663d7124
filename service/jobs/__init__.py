"""Jobs: bought, paid, run, answered, settled; never lost, never twice."""
