"""Programs that try to break the package: damaged files, kills, full disks, hostile clients. See docs/trust.md."""
