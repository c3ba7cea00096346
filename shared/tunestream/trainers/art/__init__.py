"""Training by OpenPipe ART; needs the extra ``art``. ART is loaded by a worker process only."""
