"""The only place that writes files: a home, its lake, atomic writes and the lock."""
