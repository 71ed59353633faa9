"""The account: its pods, the market, the money, and how they change with time."""
