"""What a service shows of itself: metrics, the watchdog, the log of refused records."""
