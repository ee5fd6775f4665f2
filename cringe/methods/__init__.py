"""One file a method: its name is the file's, its sentence the first line of the docstring."""
