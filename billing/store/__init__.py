"""File store: the billing home, its lake, atomic writes and the lock. No other room writes files."""
