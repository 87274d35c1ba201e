"""``python -m tests.fuzz.coverage_guided heads``: inputs that are chosen for reaching new lines, by atheris.

It needs the package ``atheris``, which no other test does. What follows the target's name are options of libFuzzer:
``-max_total_time=3600``, ``-jobs=2``, a folder in which to keep the corpus.
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
import zlib
from pathlib import Path


def main() -> int:
    """Run until it is ended, or an input fails."""
    try:
        import atheris
    except ImportError:
        sys.stderr.write("atheris is not installed: pip install atheris\n")
        return 2
    # Before anything else imports them.
    with atheris.instrument_imports(include=["gateway", "publisher"]):
        from tests.fuzz.targets import TARGETS
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.stderr.write(f"Name a target: {', '.join(TARGETS)}\n")
        return 2
    logging.disable(logging.CRITICAL)
    target = TARGETS[name]()

    def take(data: bytes) -> None:
        # Of an input follows all that is chosen by dice, so that libFuzzer can try it again.
        target.take(data, random.Random(zlib.crc32(data)))

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number, data in enumerate(target.corpus):
            (Path(folder) / str(number)).write_bytes(data)
        # It writes what it finds into the first folder.
        atheris.Setup([sys.argv[0], *options, folder], take)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
