"""Architecture search that pays for hardware and resilience."""
