"""`kubectl` without a cluster: the real one reads the options, and nothing is asked of anybody.

Pointed at a port where nobody listens, it says so only after it has understood what it was told:
any other complaint is a mistake in the command. Manifests are built before that, too. What the
cluster would have answered it can't tell: `logs` gives those of the sandbox's gateway, ReplicaSets
are two made up here, and `exec` runs the container's Python here, on the secrets of the sandbox.
"""

from __future__ import annotations

import os
import subprocess
import sys

NOBODY = "http://127.0.0.1:1"
REFUSED = "connection refused", "The connection to the server 127.0.0.1:1 was refused"
PYTHON = "/usr/bin/python3"
MOUNTED = "/run/secrets/radgateway"
REVISIONS = (
    "1|true|rad-gateway-aaaa|registry.example/radgateway:1.0.0\n"
    "2||rad-gateway-bbbb|registry.example/radgateway:1.1.0\n"
)


def main(arguments: list[str]) -> int:
    """Its exit code: 0 for what it understood."""
    told = subprocess.run(
        [os.environ["REAL_KUBECTL"], f"--server={NOBODY}", *arguments],
        env={**os.environ, "KUBECONFIG": os.devnull},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if told.returncode == 0 or not any(word in told.stderr for word in REFUSED):
        sys.stderr.write(f"kubectl {' '.join(arguments)}: {told.stderr or 'asked nobody'}")
        return 64
    if "exec" in arguments:
        program, *words = arguments[arguments.index("--") + 1 :]
        if program != PYTHON:
            sys.stderr.write(f"the image has no {program}\n")
            return 127
        text = sys.stdin.read().replace(MOUNTED, os.environ["SECRETS"])
        ran = subprocess.run([sys.executable, *words], input=text, text=True, check=False)
        return ran.returncode
    if "logs" in arguments:
        with open(os.environ["GATEWAY_LOG"], encoding="utf-8") as log:
            sys.stdout.write(log.read())
    elif "replicasets" in arguments and any("jsonpath" in word for word in arguments):
        sys.stdout.write(REVISIONS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
