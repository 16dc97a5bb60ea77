"""What Python programs need to know of the Headstart kernel; the kernel itself is the program `headstart`."""
