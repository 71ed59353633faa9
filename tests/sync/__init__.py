"""The blocking client, from outside: parity, threads, interruptions, forks, and how it ends."""
