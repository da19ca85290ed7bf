"""Domain model: money, quantities, days, columns, the catalogue, errors. Imports no other room."""
