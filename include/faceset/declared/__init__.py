"""What a person wrote: a dataset file and the params of a run, and how they are read and refused."""
