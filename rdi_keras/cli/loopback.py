"""`python -m rdi_keras.cli.loopback FOLDER`: serves a folder of versions on this machine, to try a client."""

import sys
import threading
from collections.abc import Sequence

from rdi_keras.cli.options import command, parse

DESCRIPTION = "Serve a folder of versions to this machine, for tests and demos; no TensorFlow Serving."


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Serves until Ctrl-C; prints the addresses as soon as it answers."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("folder", type=str, help="of versions, such as saved_models/digits")
    parser.add_argument("--model", type=str | None, help="its name in requests; default: the folder's")
    parser.add_argument("--keep", type=int, default=1, help="how many of the newest versions stay")
    parser.add_argument("--port", type=int, default=8500, help="of gRPC; 0: any that is free")
    parser.add_argument("--rest_port", type=int, default=8501, help="of REST; 0: any that is free")
    given = parse(parser, argv)

    from rdi_keras.serving.loopback import LoopbackServer

    with LoopbackServer(given.folder, given.model, given.keep, given.port, given.rest_port) as server:
        print(f"{server.model}: gRPC {server.address}, REST {server.rest_address}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("Stopping: requests under way are finished")


if __name__ == "__main__":
    sys.exit(main())
