import os
import signal
import sys

if __name__ == "__main__":  # Ctrl-C is quiet while this is imported
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from v_diffusion.weights.command import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = main(prog="python -m v_diffusion.weights")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own end can't be interrupted quietly
    sys.exit(status)
