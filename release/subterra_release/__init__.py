"""Makes a release: command line, images, chart, bills of materials and checksums, into one folder."""
