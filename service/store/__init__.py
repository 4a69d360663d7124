"""Redis as transport: time-outs, errors, scripts and key shapes; no meaning of its own."""
