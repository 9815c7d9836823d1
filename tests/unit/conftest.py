"""Fixtures for all unit tests."""

from tests.unit.disks import small_disk

__all__ = ["small_disk"]
