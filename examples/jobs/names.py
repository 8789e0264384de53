"""One allocation of names.yaml: tells its host to whoever asks at its port, and asks the next allocation for its own."""

import os
import socket
import threading
import time

index, count = int(os.environ["DMS_INDEX"]), int(os.environ["DMS_COUNT"])


def tell(door: socket.socket) -> None:
    """Answers the one that asks, and waits until it has the answer."""
    with door.accept()[0] as asker:
        asker.sendall(f"number {index}".encode())
        asker.shutdown(socket.SHUT_WR)
        asker.recv(1)


def ask(name: str) -> str:
    """What an allocation answers; one that is not there yet is asked again."""
    while True:
        try:
            with socket.create_connection((name, 8080)) as way:
                if answer := way.makefile().read():
                    return answer
        except OSError:
            time.sleep(0.1)


telling = threading.Thread(target=tell, args=[socket.create_server(("127.0.0.1", 8080))])
telling.start()
print(f"number {index} hears {ask(f'{(index + 1) % count}.job.internal')}")
telling.join()
