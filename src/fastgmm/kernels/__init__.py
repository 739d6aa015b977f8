"""Everything compiled: the pass over rows (_pass) and batched linear algebra (_linalg)."""

from __future__ import annotations
