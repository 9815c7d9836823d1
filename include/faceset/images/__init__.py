"""What an image file is as the trainer sees it, and what need not be looked at again."""
