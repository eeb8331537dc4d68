"""The web floor is tested from outside too."""

from tests.serving.conftest import make_server as make_server
from tests.serving.conftest import server as server
