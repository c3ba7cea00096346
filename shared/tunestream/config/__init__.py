"""Configuration: of a run, of an experiment, of a process; and how their files are read.

A run's YAML file is read by :func:`tunestream.config.run.loading.load_run`; how a process is deployed is in
:mod:`tunestream.config.settings`.
"""
