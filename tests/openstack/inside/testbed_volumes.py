"""Volumes without bytes, for a cloud whose servers never run."""

from __future__ import annotations

from typing import Any

from cinder import interface
from cinder.volume import driver


@interface.volumedriver
class EmptyVolumes(driver.VolumeDriver):
    """Does nothing, and reports that it is done; there is room for everything."""

    VERSION = "1.0"

    def check_for_setup_error(self) -> None:
        pass

    def _update_volume_stats(self) -> None:
        self._stats = {
            "volume_backend_name": "testbed",
            "vendor_name": "isoneph",
            "driver_version": self.VERSION,
            "storage_protocol": "fake",
            "total_capacity_gb": "infinite",
            "free_capacity_gb": "infinite",
        }

    def create_volume(self, volume: Any) -> None:
        pass

    def delete_volume(self, volume: Any) -> None:
        pass

    def clone_image(self, *_: Any) -> tuple[dict[str, Any], bool]:
        """A volume from an image: made, and nothing is left to be copied."""
        return {}, True

    def create_export(self, *_: Any) -> None:
        pass

    def ensure_export(self, *_: Any) -> None:
        pass

    def remove_export(self, *_: Any) -> None:
        pass

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        return {"driver_volume_type": "fake", "data": {"volume_id": volume.id}}

    def terminate_connection(self, *_: Any, **__: Any) -> None:
        pass
