"""Is the dependency fit to be called? One circuit breaker for the whole fleet."""
