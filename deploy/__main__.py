"""`python -m deploy <command>` starts every process of the product. This file alone can be read by an old Python."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # the sentence is for whoever runs us with an older one
    sys.stderr.write(
        "Hallpass needs Python 3.11 or newer, and this is %d.%d: install a newer one and run `make run`.\n"  # noqa: UP031
        % sys.version_info[:2]
    )
    sys.exit(2)

from deploy.cli import main

sys.exit(main())
