"""Dropmill beside other upload servers, in one run. They are installed into environments below `benchmarks/out/`."""
