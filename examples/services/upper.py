"""A service: answers each call with what it was given in capital letters, and says how many it has answered so far."""

import socket

answered = 0
# From the next line on it counts as ready: whatever takes long, such as loading a model, comes before it.
door = socket.create_server(("127.0.0.1", 8080))
while True:
    call, _ = door.accept()  # a connection is a call, one after the other
    with call:
        if given := call.makefile("rb").read():  # nothing: its node looks whether it is ready
            answered += 1
            call.sendall(b"%d: %s" % (answered, given.upper()))
