"""What all live workers do at this moment, told by each of them and put together as one picture."""
