"""What a customer sees on paper: the page template, its style sheet, the mark of the seller, and the faces it is set in."""
