"""Have we read it already? Values kept per worker and in Redis, for the whole fleet."""
