"""`python -m radgateway` is the command `radgateway`."""

import sys

from radgateway.cli import main

sys.exit(main())
