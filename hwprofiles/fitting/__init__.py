"""From kernel measurements to step-cost tables and rooflines: development time only, nothing here is loaded by a simulation.

Reading order: curve and kernel_tables (what was measured), composition (whole steps as sums of kernels), fit and fit_error (a
table and how far it is off), composed_steps and fit_roofline (the roofline of a GPU), coverage (which tables can be made), and
tables_out (writing them all or none).
"""
