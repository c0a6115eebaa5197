"""The examples, which are installed as maskmm._examples."""
