"""The command line interface. It parses arguments, calls the library and prints results."""
