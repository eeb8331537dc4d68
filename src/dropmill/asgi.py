"""The ASGI entry: `hypercorn dropmill.asgi:app`, one worker, settings from the environment.

A foreign server has no hook for our drain: what it cuts off at its end is as after `kill -9`, so nothing accepted is
lost, but running attempts are started again. `dropmill serve` ends gracefully.
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
