"""Every config of the installed mmdet and mmseg, swapped and tried: `make zoo` writes docs/zoo.md."""
