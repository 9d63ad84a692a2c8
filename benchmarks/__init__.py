"""zaozi beside its peers: training and sampling speed, measured in turns. Run it with `make bench`."""
