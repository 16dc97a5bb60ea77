"""Support for Python programs that use the Headstart kernel; the kernel itself is the program `headstart`."""
