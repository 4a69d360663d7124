"""The flows on sale: how they are declared, kept in PostgreSQL and found."""
