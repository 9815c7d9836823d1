"""How a person goes out of all that earlier runs left, and the receipt of it."""
