"""What the units of a network detect, and which of these findings a prediction rests on (methods of Khakzar 2021)."""
