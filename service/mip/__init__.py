"""The standards this service speaks: MIP-003 input schemas, MIP-004 hashes. Pure code, no I/O."""
