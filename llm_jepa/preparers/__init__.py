"""What the scripts in data/ share: files found and checked, rows read, splits made disjoint, one directory written."""
