"""How files of requests are read and written: the parts that our own format and the readers in traces/ share.

Reading order: archive.py and unpacked.py (bounded bytes, of folders, archives and gzip), csv_cells.py and csv_table.py (CSV as
numbers, fast, and slowly where something is wrong), rows_in_chunks.py (a file gone through in pieces), coarse_clock.py
(arrivals on the ticks of a clock); stream_table.py, stream_csv.py, stream_parquet.py and side_tables.py are the own format's,
whose door is workloads/stream_file.py.
"""
