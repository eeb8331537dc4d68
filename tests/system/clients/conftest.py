"""A browser for the names that foreign clients sent."""

from tests.system.browser.conftest import chromium as chromium
