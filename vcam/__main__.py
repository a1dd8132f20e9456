"""`python -m vcam` is `vcam`."""

import sys

from vcam.cli import main

sys.exit(main())
