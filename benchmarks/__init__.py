"""What billing costs: time, processor and memory, measured on generated homes."""
