"""Stories: each is a coroutine function ``story`` that is given a world."""
