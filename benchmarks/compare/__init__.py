"""This server and its peers on one machine, measured in turn and set side by side."""
