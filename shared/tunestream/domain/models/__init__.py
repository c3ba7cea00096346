"""Model versions: judged, promoted, watched, traced back and cleaned up."""
