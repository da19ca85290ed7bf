"""What everything speaks of: money, quantities, days, columns, the catalogue, errors. Knows no other room."""
