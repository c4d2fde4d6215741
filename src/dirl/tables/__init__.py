"""Tables that users bring, read in one way by every command."""
