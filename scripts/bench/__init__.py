"""What ``make bench`` measures: Tollgate beside a bare handler and beside FastAPI with slowapi."""
