"""`primepods run`, and the commands about its runs."""
