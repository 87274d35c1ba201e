"""The ``gateway`` command, also as ``python -m gateway``."""

import sys


def main() -> None:
    """Run the command; says what to install where only the publisher was installed."""
    try:
        from gateway.cli import main as run  # noqa: PLC0415 - it needs the packages of the extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in {"gateway", "publisher"}:
            raise
        message = (
            f"there is no {error.name}: run pip install '.[gateway]' in a checkout"
            ", or pip install 'FILE.whl[gateway]' with the wheel"
        )
        print(f"gateway: {message}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
