"""`psql DATABASE --command SQL`, and no other option: run on the sandbox's real PostgreSQL."""

from __future__ import annotations

import argparse
import sys

import psycopg


def main(arguments: list[str]) -> int:
    """Its exit code. Raises `psycopg.Error` for SQL that PostgreSQL refuses."""
    parser = argparse.ArgumentParser("psql", allow_abbrev=False)
    parser.add_argument("database")
    parser.add_argument("--command", required=True)
    options = parser.parse_args(arguments)
    with psycopg.connect(options.database, autocommit=True) as connection:
        for row in connection.execute(options.command.encode()).fetchall():
            sys.stdout.write(f"{row}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
