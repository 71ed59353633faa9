"""`python -m primepods`: the command, even if its script is not on the PATH."""

from .cli import main

if __name__ == "__main__":
    main()
