"""Tables: columns of categories and numbers, prepared once, and models on them."""
