"""What a customer sees on paper: page template, style sheet, the mark of the seller, and the faces it is set in."""
