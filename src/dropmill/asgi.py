"""The ASGI entry: `hypercorn dropmill.asgi:app`, one worker, settings from the environment.

Other ASGI servers have no hook for our drain, so stopping is like `kill -9`: nothing accepted is lost, but running
attempts run again after the next start. `dropmill serve` stops gracefully.
"""

import os
import sys

from dropmill import descriptors
from dropmill.app import create_app
from dropmill.model.errors import SettingsError
from dropmill.settings import Settings

descriptors.raise_limit()
try:
    app = create_app(Settings.load({}, os.environ))
except SettingsError as error:
    sys.exit(f"dropmill: {error.detail}")
