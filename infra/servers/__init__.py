"""The servers Plaza brings along: each module finds, starts and stops one product."""
