"""Face exports that are drawn: nobody's faces."""
