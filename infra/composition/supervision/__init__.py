"""`plaza up`: everything on one machine, and how it is found and watched over."""
