"""Asking the payment service for money's sake: one gateway that never pays twice."""
