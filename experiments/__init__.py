"""experiments: scenario files, the command line, and one question per file.

Reading order: scenario (what a user may ask), traffic (its workload as a stream), search and workers (least instances,
on all cores), plan and compare (the questions), folder and tables (what a run leaves), report (the page), cli.
"""

__dist__ = "servecast"
