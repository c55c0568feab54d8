"""The documents, the package and the benchmark are true to the program."""
