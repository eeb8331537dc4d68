"""A browser for the names that foreign clients sent."""

from tests.browser.conftest import chromium as chromium
