"""``python -m lib``: the ``command_line``, which Ctrl-C ends without a word even while it is being loaded."""

import sys

if __name__ == "__main__":
    try:
        from lib.command_line import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)
