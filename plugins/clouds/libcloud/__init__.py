"""The ``libcloud`` driver: public clouds through Apache Libcloud. See :class:`LibcloudCloud`."""

try:
    import libcloud  # noqa: F401  (asked for here, so that one message tells what is missing)
except ImportError as error:
    raise ImportError(
        f"{error}; the libcloud driver needs: pip install 'isoneph[libcloud]'"
    ) from error

from isoneph.plugins.clouds.libcloud.driver import LibcloudCloud

__all__ = ["LibcloudCloud"]
