"""What `parser` and its child process `parser_child` share: the length before each frame, and the child's flag."""

import struct
from typing import Final

LENGTH: Final = struct.Struct(">I")
KEEP_TAGS: Final = "--keep-tags"
