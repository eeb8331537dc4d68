"""The web floor is tested from outside too."""

from tests.system.serving.conftest import make_server as make_server
from tests.system.serving.conftest import server as server
