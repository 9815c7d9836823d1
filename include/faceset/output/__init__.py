"""How files come into the merged dataset, and where what leaves it is set aside."""
